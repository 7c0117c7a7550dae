"""Receivers of notifications over HTTPS; the only decision is what an answer means."""
