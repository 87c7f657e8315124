"""Measure: parity, speed, accuracy. `results/` holds dated notes."""
