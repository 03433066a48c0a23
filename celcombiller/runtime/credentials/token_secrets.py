"""Secrets of API tokens. Random bytes come from the system, so they are made outside the core."""

from __future__ import annotations

import secrets

SECRET_PREFIX = "ccb_"  # noqa: S105  it lets a leaked secret be recognized


def make_token_secret() -> str:
    """Return a new secret of 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)
