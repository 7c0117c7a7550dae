"""The simulated Azure: one process that serves Entra, Graph, ARM, Key Vault and Blob Storage over TLS."""
