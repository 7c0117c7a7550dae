"""Metrics of the state at the time of a scrape, computed from what the watches delivered. They disappear with their object."""
