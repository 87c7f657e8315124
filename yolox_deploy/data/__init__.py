"""Data sets and images."""
