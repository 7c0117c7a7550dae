"""The SQL resource provider: logical servers, their keys and protectors, databases, failover groups."""
