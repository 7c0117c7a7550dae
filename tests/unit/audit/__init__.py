"""The audit record: its chain, and what finds each way to tamper with it."""
