"""The paper's speed table, and that of engines, on a GPU."""
