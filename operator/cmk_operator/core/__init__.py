"""What is true and what follows from it: pure values and decisions, without clock, I/O or SDK."""
