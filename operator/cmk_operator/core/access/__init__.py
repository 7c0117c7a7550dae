"""Access to keys: states, and the verdicts that lead to them."""
