"""Pages of the system: networks, staff, keys, settings, and what passes through it."""
