"""Artifacts against their reference, for a user's CI."""
