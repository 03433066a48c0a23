"""``/api/v1`` routes of credentials."""
