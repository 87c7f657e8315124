"""What inference servers need around an artifact: folders that they load as they are."""
