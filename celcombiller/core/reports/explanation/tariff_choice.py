"""By which tariff a recorded use was priced, and why by that one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller.core.charging.simulation import SETTINGS
from celcombiller.core.schema import tables
from celcombiller.core.tariffs.price_format import count_credits, format_money

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

TRAIL_ROWS_MAX = 200
"""The changes of a subscriber since the use that are looked through for the tariff and the group of that time."""


class TariffReason(StrEnum):
    """Whose tariff it was; ``changed``: when the use began it was one of these, and no longer is."""

    SUBSCRIBER = "subscriber"
    GROUP = "group"
    DEFAULT = "default"
    SETTINGS = "settings"
    CHANGED = "changed"


class TariffChoice(msgspec.Struct, kw_only=True):
    """The tariff that priced a use, and why this one."""

    name: Annotated[str, Meta(description="the tariff; `settings`: the prices of the settings file")] = SETTINGS
    version: Annotated[int, Meta(description="the number of its version; null: the settings have none")] | None = None
    effective_at: (
        Annotated[datetime, Meta(tz=True, description="from when on the version counts (RFC 3339, UTC)")] | None
    ) = None
    reason: Annotated[
        TariffReason,
        Meta(
            description="whose tariff it is: the subscriber's own, the group's, the default; settings: none of these"
            " has a price; changed: it was one of these when the use began, and no longer is"
        ),
    ] = TariffReason.SETTINGS
    group: Annotated[str, Meta(description="the group whose tariff it is; empty: it is not a group's")] = ""
    currency: Annotated[str, Meta(description="how money is shown; empty: as credits")] = ""
    credits_per_unit: Annotated[int, Meta(description="the credits of one unit of the currency")] = 1

    def money(self, amount: int) -> str:
        """Return an amount in the money of the tariff; empty where it has none."""
        return format_money(amount, self.currency, self.credits_per_unit) if self.currency else ""

    def credits(self, amount: int) -> str:
        """Return an amount as ``120 credits (BRL 1.20)``."""
        money = self.money(amount)
        return f"{count_credits(amount)}{f' ({money})' if money else ''}"


def find_tariff_choice(tx: Connection, version_id: int | None, subscriber_id: int, at: datetime) -> TariffChoice:
    """Return the tariff of a version that priced a subscriber's use which began ``at`` this time."""
    if version_id is None:
        return TariffChoice()
    version, tariff = tables.tariff_version, tables.tariff
    row = tx.execute(
        sa.select(tariff, version.c.number, version.c.effective_at)
        .join(version, version.c.tariff_id == tariff.c.id)
        .where(version.c.id == version_id)
    ).one()
    reason, group = _find_reason(tx, row, subscriber_id, at)
    return TariffChoice(
        name=row.name,
        version=row.number,
        effective_at=row.effective_at,
        reason=reason,
        group=group,
        currency=row.currency,
        credits_per_unit=row.credits_per_unit,
    )


def _find_reason(tx: Connection, tariff: Any, subscriber_id: int, at: datetime) -> tuple[TariffReason, str]:
    """Return why a subscriber's use was priced by this tariff, and the name of the group where it is a group's."""
    own_id, group_id = _assigned(tx, subscriber_id, at)
    if own_id == tariff.id:
        return TariffReason.SUBSCRIBER, ""
    table = tables.subscriber_group
    group = tx.execute(sa.select(table.c.name, table.c.tariff_id).where(table.c.id == group_id)).first()
    if group is not None and group.tariff_id == tariff.id:
        return TariffReason.GROUP, group.name
    return (TariffReason.DEFAULT if tariff.is_default else TariffReason.CHANGED), ""


def _assigned(tx: Connection, subscriber_id: int, at: datetime) -> tuple[int | None, int | None]:
    """Return the ids of the tariff and of the group that a subscriber had at this time, as the audit trail shows."""
    table, trail = tables.subscriber, tables.trail
    now = tx.execute(
        sa.select(table.c.username, table.c.tariff_id, table.c.group_id).where(table.c.id == subscriber_id)
    ).one()
    later = tx.execute(
        sa.select(trail.c.before)
        .where(trail.c.subject == f"subscriber:{now.username}", trail.c.at > at, trail.c.before.is_not(None))
        .order_by(trail.c.id)
        .limit(TRAIL_ROWS_MAX)
    ).scalars()
    for before in map(msgspec.json.decode, later):
        if "tariff_id" in before and before.get("id") == subscriber_id:  # a row of the account has no tariff
            return before["tariff_id"], before["group_id"]
    return now.tariff_id, now.group_id
