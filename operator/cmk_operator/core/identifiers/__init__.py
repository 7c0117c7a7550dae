"""Grammars of identifiers: key URIs, Azure Resource Manager ids, clouds, Snowflake accounts."""
