"""Storage accounts (`Microsoft.Storage/storageAccounts`)."""
