"""What `make dist` and `make release` make, and when they refuse to."""
