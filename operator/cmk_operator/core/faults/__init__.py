"""What blocks an object, as values."""
