"""The record: one chain for each organization."""
