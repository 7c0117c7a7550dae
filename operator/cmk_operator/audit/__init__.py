"""Keeps the record of changes in Kubernetes, and hands copies of it to the log and to an HTTP sink."""
