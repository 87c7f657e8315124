"""The first layer in which an artifact leaves its checkpoint, and why."""
