"""What the customer's administrator must do, as a letter, az CLI script, Terraform and Bicep; pure."""
