"""What guards a key against loss."""
