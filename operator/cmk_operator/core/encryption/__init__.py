"""What protects a resource, what should, and what may be done about it."""
