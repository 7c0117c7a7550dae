"""One suite over every provider: the same cases and faults, against the simulated Azure, without Kubernetes."""
