"""What billers of one ledger must have alike in their settings, as a digest of each part: `nodes` compares them.

A part that only one of two has is not compared: RADIUS, or notices, may be switched on in one biller alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from celcombiller.config.tables import Config, RadiusClient

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**12, 8, 1
"""About 10 ms and 4 MiB for each client, once: a guess at a secret shall cost whoever reads the database as much."""


def settings_digests(config: Config) -> dict[str, str]:
    """Return the digests by the names of what they are of, as the operator's file has them."""
    calls, radius = config.calls, config.radius
    parts = {
        "[[rates]]": _digest(config.rates),
        "[calls]": _digest((calls.ring_seconds, calls.max_call_seconds, calls.external_dial != "")),
        "[sms]": _digest(config.sms),
        "[radius] silent_minutes": _digest(radius.silent_minutes),
    }
    if config.notices.thresholds:
        parts["[notices]"] = _digest((config.notices, config.balance))
    if radius.clients:
        parts["[radius]"] = _digest(
            (radius.octets_per_credit, radius.quota_octets, radius.interim_seconds, radius.session_seconds_max)
        )
        parts["[[radius.clients]]"] = _digest(sorted(each.name for each in radius.clients))
        parts |= {f"[[radius.clients]] {each.name}": _digest_of_client(each) for each in radius.clients}
    return parts


def _digest(facts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _digest_of_client(client: RadiusClient) -> str:
    """Of all of it with its secret, which is short and may be a word: slow on purpose."""
    facts = msgspec.json.encode(client)
    return hashlib.scrypt(facts, salt=client.name.encode(), n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32).hex()
