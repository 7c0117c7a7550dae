"""Grammars of what names things: key URIs, Azure Resource Manager ids, clouds, accounts."""
