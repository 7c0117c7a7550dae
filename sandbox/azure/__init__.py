"""The simulated Azure: one process that speaks for Entra, Graph, ARM, Key Vault and Blob Storage over TLS."""
