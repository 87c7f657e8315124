"""Long runs under load: the same results, and nothing that grows."""
