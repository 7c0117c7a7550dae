"""Measures the operator against its floor: a bare client that makes the same calls (docs/benchmarks.md)."""
