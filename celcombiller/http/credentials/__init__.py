"""Logins: the password, the second factor, and the cookie of a session."""
