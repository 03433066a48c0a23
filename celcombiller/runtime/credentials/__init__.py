"""Passwords and tokens: how they are hashed and made."""
