"""Azure Storage: accounts, their customer-managed keys, and the blob service."""
