"""Random secrets of authenticators, and recovery codes for who has lost theirs."""

from __future__ import annotations

import base64
import secrets

import pyotp

RECOVERY_CODES = 10
RECOVERY_BYTES = 10
"""Random octets of a recovery code: 16 letters and digits of base 32."""


def make_secret() -> str:
    """Return a new secret in base 32: 160 random bits, as many as the hash has (RFC 4226, section 4)."""
    return pyotp.random_base32()


def make_recovery_codes() -> list[str]:
    """Return new recovery codes, in groups of four for the eye."""
    plain = [base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode() for _ in range(RECOVERY_CODES)]
    return ["-".join(each[at : at + 4] for at in range(0, len(each), 4)) for each in plain]
