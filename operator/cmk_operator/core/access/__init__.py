"""Whether a key can be reached: states, and the verdicts that lead to them."""
