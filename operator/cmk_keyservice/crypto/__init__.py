"""Pure: contexts, the ciphertext format, the suites of Tink, the internal key ring."""
