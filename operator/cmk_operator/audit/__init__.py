"""Keeps the audit record in Kubernetes, and sends copies of it to the log and to an HTTP sink."""
