"""What is so at the moment of a scrape, read off from what the watches showed: it cannot go stale, and goes with its object."""
