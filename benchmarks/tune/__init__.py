"""The fastest way to run a model on this machine that is accurate enough, or the most accurate that is fast enough."""
