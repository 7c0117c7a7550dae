"""Key Vault: vaults as the data plane sees them, their keys, and who may use them."""
