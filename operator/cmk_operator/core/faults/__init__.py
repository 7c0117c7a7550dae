"""What stands in the way, as values."""
