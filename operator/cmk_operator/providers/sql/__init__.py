"""SQL servers (`Microsoft.Sql/servers`) and databases with a key of their own."""
