"""Ways of calls to other networks: trunks and routes, and how many calls are open."""
