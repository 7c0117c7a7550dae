"""Everything that crosses the network to Azure: credentials, vaults, Resource Manager. I/O without decisions."""
