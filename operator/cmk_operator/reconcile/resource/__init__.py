"""`EncryptedResource`."""
