"""SupportRequests: which are in force, and what is told to who made them."""
