"""What a kind of target declares about itself."""
