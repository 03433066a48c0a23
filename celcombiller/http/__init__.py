"""The web framework on Klein: routes, authorization, decoding, problem details, OpenAPI."""
