"""Killed at any moment, or out of disk: what stands, and whether the next run mends it."""
