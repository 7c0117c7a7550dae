"""The record of changes as a chain: its entries, their canonical form, and what finds every edit; pure."""
