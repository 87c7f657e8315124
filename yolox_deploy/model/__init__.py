"""The reference implementation: the network, its checkpoints, its variants."""
