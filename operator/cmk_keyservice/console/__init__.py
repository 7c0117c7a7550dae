"""The page for organizations' administrators: server-rendered, without scripts; a client of the Kubernetes API and of sign-in pages."""
