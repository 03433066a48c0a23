"""Digests of the settings that all billers of one ledger must have in common; `core.cluster` compares them.

A part that one of two billers does not have is not compared: RADIUS or notices may run in one biller only.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from celcombiller.config.tables import Config, RadiusClient

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**12, 8, 1
"""About 10 ms and 4 MiB for each client, once. Each guess at a secret costs a reader of the database as much."""


def settings_digests(config: Config) -> dict[str, str]:
    """Return the digest of each part, by its name in the operator's file."""
    calls, radius = config.calls, config.radius
    parts = {
        "[[rates]]": _digest(config.rates),
        "[calls]": _digest((calls.ring_seconds, calls.max_call_seconds, calls.external_dial != "")),
        "[numbering]": _digest(config.numbering),
        "[sms]": _digest(config.sms),
        "[fees]": _digest(config.fees),
        "[schedules] time_zone": _digest(config.schedules.zone),
        "[radius] silent_minutes": _digest(radius.silent_minutes),
    }
    if config.validity_terms.days:
        parts["[credit_validity]"] = _digest((config.credit_validity, config.schedules.zone))
    if config.smpp.host:
        parts["[smpp] default_alphabet"] = _digest(config.smpp.default_alphabet)
    if config.notices.thresholds:
        parts["[notices]"] = _digest((config.notices, config.balance, config.console.language))
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
    """Return the digest of a client with its secret. It is slow on purpose: the secret is short, and may be a word."""
    facts = msgspec.json.encode(client)
    return hashlib.scrypt(facts, salt=client.name.encode(), n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, dklen=32).hex()
