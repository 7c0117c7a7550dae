"""The custom resources: their shape, their admission rules and their status contract."""
