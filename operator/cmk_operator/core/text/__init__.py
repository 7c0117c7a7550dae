"""Texts from and for the outside: cleaned, redacted, dated."""
