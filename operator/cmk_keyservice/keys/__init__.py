"""Data keys in memory: cache, single flight, leases, proof of access, eviction."""
