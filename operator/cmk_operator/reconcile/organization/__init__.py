"""`OrganizationKey`."""
