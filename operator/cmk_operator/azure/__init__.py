"""Everything that is sent to Azure: credentials, requests to vaults, Resource Manager and Graph. I/O without decisions."""
