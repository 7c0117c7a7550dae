"""Events for receivers outside Kubernetes."""
