"""How a password is hashed: Argon2id (RFC 9106) with the library's own parameters. No threads, so it loads fast."""

from __future__ import annotations

from typing import Annotated

from argon2 import PasswordHasher
from msgspec import Meta

LENGTH_MIN = 8

Password = Annotated[
    str, Meta(pattern=r"^[^\x00]*$", min_length=LENGTH_MIN, max_length=1024, description="8 to 1024 characters")
]

OldPassword = Annotated[str, Meta(pattern=r"^[^\x00]*$", max_length=1024, description="at most 1024 characters")]
"""A password that was set before: of any length, as an imported one may be shorter."""

HASHER = PasswordHasher()


def hash_password(password: str) -> str:
    """Return the hash of a password; it takes tens of milliseconds, so the reactor's thread never calls this."""
    return HASHER.hash(password)
