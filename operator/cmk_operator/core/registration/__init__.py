"""Registering the identities of the trust path."""
