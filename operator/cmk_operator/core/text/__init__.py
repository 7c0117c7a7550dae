"""Untrusted texts, cleaned and redacted, and times as RFC 3339."""
