"""The life of a key's versions."""
