"""Notifications to receivers outside Kubernetes."""
