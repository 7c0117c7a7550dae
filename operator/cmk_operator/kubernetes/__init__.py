"""The Kubernetes API as this operator uses it: reads, server-side apply of status, and the view of what was watched."""
