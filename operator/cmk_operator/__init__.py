"""Keeps Azure data encrypted with customers' own keys, held in the customers' own tenants."""

__version__ = "0.1.0"
