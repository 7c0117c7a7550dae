"""A simulated Azure and a real local Kubernetes API server, for the demo, the tests and the bench."""
