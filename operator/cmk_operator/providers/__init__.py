"""The kinds of resources that can be encrypted with a customer's key: one folder each, behind one small protocol."""
