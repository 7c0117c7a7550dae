"""Snowflake accounts, put on a customer's key by the self-registration of Tri-Secret Secure."""
