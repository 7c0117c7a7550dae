"""Snowflake on Azure: accounts, their SQL endpoints, and Tri-Secret Secure by self-registration."""
