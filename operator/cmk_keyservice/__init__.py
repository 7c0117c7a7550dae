"""The key service: encrypts and decrypts for services, under keys whose root is the organization's own key."""
