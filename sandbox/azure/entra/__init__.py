"""Entra: tenants, applications, principals, tokens, federation and consent."""
