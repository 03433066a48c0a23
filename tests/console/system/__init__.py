"""Pages of the system, over real HTTP."""
