"""A bundle as the commands show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.model.bundles import Bundle

_FIELDS = (
    "kind",
    "amount",
    "held",
    "destinations",
    "priority",
    "valid_from",
    "valid_until",
    "renews",
    "ended_at",
    "call_seconds_max",
)


def bundle_row(username: str, bundle: Bundle, now: datetime) -> dict[str, Any]:
    """Return what the commands show of a bundle, as it is now; its ``id`` is the number of its account."""
    facts = asdict(bundle)
    return (
        {"id": bundle.account_id, "username": username, "name": bundle.name}
        | {name: facts[name] for name in ("offer_id", *_FIELDS, "reference")}
        | {
            "left": bundle.posted,
            "unlimited": bundle.unlimited,
            "services": sorted(bundle.services_paid),
            "state": bundle.state_at(now),
        }
    )
