"""The lifecycle of a key's versions."""
