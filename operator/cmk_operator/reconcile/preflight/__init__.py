"""`Preflight`."""
