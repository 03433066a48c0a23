"""The catalogue: all that has a price or a route, as one value in memory that is exchanged as a whole."""
