"""`CustomerManagedKey`."""
