"""Random customers, faults, crashes and edits against the real reconcile code, with the laws checked after each step."""
