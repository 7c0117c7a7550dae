"""What protects a resource, what should protect it, and which change is allowed."""
