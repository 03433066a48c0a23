"""The signature of a provider's notice: HMAC-SHA256 (RFC 2104) of the time, a point and the body. Pure.

The time is that of the sender's clock, in seconds since 1970, as the header has it. So a notice that somebody recorded
is good for a short time only; within it, the id of the payment makes that nothing happens twice.
"""

from __future__ import annotations

import hashlib
import hmac
import re

_TIME = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-fA-F]{64}")


def sign(secret: str, time: str, body: bytes) -> str:
    """Return the signature of a body that is sent at this time, in hexadecimal."""
    return hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_signed(secret: str, time: str, body: bytes, signature: str) -> bool:
    """Return whether the signature is that of the secret; how long it takes says nothing of the right one."""
    if not (_TIME.fullmatch(time) and _SIGNATURE.fullmatch(signature)):
        return False
    return hmac.compare_digest(sign(secret, time, body), signature.lower())


def age_seconds(time: str, now: float) -> float:
    """Return how old a notice is by the sender's clock; negative: it comes from the future. ``time`` was signed."""
    return now - int(time)
