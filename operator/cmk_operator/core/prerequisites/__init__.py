"""What protects a key against loss."""
