"""The kinds of Azure resources that can be put on a customer's key: one folder each, behind one small protocol."""
