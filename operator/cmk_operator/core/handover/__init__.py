"""What the customer's administrator must do, as a letter, an az CLI script, Terraform and Bicep: pure, from one request."""
