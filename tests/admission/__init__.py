"""Every rule of the four custom resource definitions, judged by a real API server."""
