"""HTTP: routes, bodies, problems, and the OpenAPI document."""
