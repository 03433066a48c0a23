"""Ways of calls to other networks: trunks and routes, and the limits of calls."""
