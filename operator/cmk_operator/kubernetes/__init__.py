"""The Kubernetes API: connection, requests, server-side apply of status, events, the lease, and the inventory of objects."""
