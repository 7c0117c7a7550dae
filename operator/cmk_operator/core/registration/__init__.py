"""Registration of the identities of the trust path."""
