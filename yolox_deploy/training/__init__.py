"""Training: label assignment, loss, schedule, averaged weights and the loop."""
