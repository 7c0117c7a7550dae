"""`FederatedIdentity`."""
