"""AP, parity and speed of artifacts, measured to be trusted."""
