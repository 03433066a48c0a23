"""The system itself, over real HTTP."""
