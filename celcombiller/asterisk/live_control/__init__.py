"""Control of live calls: their grants are renewed and shared, and changes and orders act on them at once."""
