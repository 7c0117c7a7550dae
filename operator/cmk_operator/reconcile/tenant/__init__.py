"""`CustomerTenant`."""
