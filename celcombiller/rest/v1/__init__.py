"""The routes of /api/v1."""
