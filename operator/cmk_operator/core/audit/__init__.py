"""The audit record as a hash chain: entries, canonical form and verification; pure."""
