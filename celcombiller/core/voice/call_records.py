"""The calls that one transaction works on, and their rows: one a billed leg, with the reports of its witnesses."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from celcombiller.core.model.calls import Call, CallState, Witness
from celcombiller.core.rating.rate_columns import columns_of_rate, rate_from_columns, rate_from_text, text_of_rate
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from celcombiller.core.model.calls import CallRenewal
    from celcombiller.core.voice.evidence import WitnessReport


@dataclass(slots=True)
class CallRecords:
    """The legs of each channel that the transaction names, and what changes."""

    _legs: dict[tuple[str, str], list[Call]] = field(default_factory=dict)
    _new: dict[str, Call] = field(default_factory=dict)
    _changed: dict[str, Call] = field(default_factory=dict)
    _regranted: set[str] = field(default_factory=set)
    _renewals: list[CallRenewal] = field(default_factory=list)
    _reports: list[WitnessReport] = field(default_factory=list)

    @staticmethod
    def query(uniqueids: Collection[str]) -> bulk.BoundQuery:
        """Return the query of the calls of these channels.

        It locks them: before their accounts, the same order in every transaction.
        """
        return _CALLS.with_values(uniqueids)

    @classmethod
    def from_rows(cls, rows: bulk.Rows) -> CallRecords:
        """Make the records of the rows of `query`."""
        calls = cls()
        for row in rows:
            call = _call_from_columns(*row)
            calls._legs.setdefault((call.server, call.uniqueid), []).append(call)
        for legs in calls._legs.values():
            legs.sort(key=attrgetter("leg"))
        return calls

    def __iter__(self) -> Iterator[Call]:
        return chain.from_iterable(self._legs.values())

    def last(self, server: str, uniqueid: str) -> Call | None:
        """Return the last leg of a channel."""
        legs = self._legs.get((server, uniqueid))
        return legs[-1] if legs else None

    def leg(self, server: str, uniqueid: str, number: int) -> Call | None:
        """Return a leg of a channel by its number."""
        return next((each for each in self._legs.get((server, uniqueid), ()) if each.leg == number), None)

    def legs(self, server: str, uniqueid: str) -> Sequence[Call]:
        """Return the legs of a channel, in their order."""
        return self._legs.get((server, uniqueid), ())

    def authorized(self, server: str, uniqueid: str, authorization: str) -> Call | None:
        """Return the last leg that came of this authorization: one that was charged late is a leg of its own."""
        legs = self._legs.get((server, uniqueid), ())
        return next((each for each in reversed(legs) if each.authorization == authorization), None)

    def add(self, call: Call) -> Call:
        """Add a new leg, the last one of its channel."""
        self._legs.setdefault((call.server, call.uniqueid), []).append(call)
        self._new[call.reference] = call
        return call

    def change(self, call: Call, **facts: Any) -> Call:
        """Record new facts of an open leg, and return it with them."""
        changed = structs.replace(call, **facts)
        legs = self._legs[call.server, call.uniqueid]
        legs[next(i for i, each in enumerate(legs) if each.leg == call.leg)] = changed
        (self._new if call.reference in self._new else self._changed)[call.reference] = changed
        return changed

    def take_trunk(self, call: Call, **facts: Any) -> Call:
        """Record by which trunk an open leg is dialled next, and return it with these ``facts``."""
        self._regranted.add(call.reference)
        return self.change(call, **facts)

    def renew(self, call: Call, renewal: CallRenewal, **facts: Any) -> Call:
        """Record another grant of an open leg, and return it with that and other new ``facts``."""
        self._renewals.append(renewal)
        self._regranted.add(call.reference)
        return self.change(call, granted_seconds=renewal.seconds_after, **facts)

    def record_report(self, report: WitnessReport) -> None:
        """Record a report; of each witness the first one stays."""
        self._reports.append(report)

    def changes(self) -> bulk.Writes:
        """Return all that is to be written."""
        if self._new:
            yield _INSERT, list(map(_columns_of, self._new.values()))
        if self._changed:
            # One statement changes a row once, so those whose grant or trunk changed have a statement of their own.
            regranted = [each for reference, each in self._changed.items() if reference in self._regranted]
            others = [each for reference, each in self._changed.items() if reference not in self._regranted]
            yield _UPDATE, [(*_ending_of(each), each.trunk_cost, each.reference, _OPEN) for each in others]
            yield (
                _UPDATE_GRANT,
                [(*_ending_of(each), *_trunk_of(each), *_grant_of(each), each.reference, _OPEN) for each in regranted],
            )
        if self._renewals:
            yield _INSERT_RENEWAL, list(map(_renewal_columns, self._renewals))
        if self._reports:
            yield _INSERT_REPORT, list(map(_report_columns, self._reports))


_FACTS = (
    *("reference", "server", "uniqueid", "leg", "authorization", "channel", "subscriber_id", "account_id"),
    *("from_number", "to_number", "callee_id", "granted_seconds", "answered_early", "started_at"),
    *("group_id", "dialled"),
)


_RATE = ("rate_prefix", "rate_name", "connect_fee", "price", "increment_seconds", "rate_detail")


_PAYING = ("tariff_version_id", "bundles")


_facts_of = attrgetter(*_FACTS)


_decode_bundles = msgspec.json.Decoder(tuple[int, ...]).decode


_OPEN = str(CallState.OPEN)
_STATES = {str(each): each for each in CallState}
_WITNESSES = {str(each): each for each in Witness}
"""By look-up: `Enum` itself is called in Python, four times a call, and so is its ``value``."""


_CHANGING = ("state", "answered_at", "ended_at", "talk_ms", "cost", "witness", "outcome", "note")


_TRUNK = ("trunk_id", "trunks_tried", "trunk_rate", "trunk_cost")


_COLUMNS = (*_FACTS[1:], *_RATE, *_PAYING, *_CHANGING, *_TRUNK)


_CALLS = bulk.BulkQuery(
    bulk.names(_COLUMNS),
    "from call where uniqueid {among}",
    of=tables.call.c.uniqueid,
    lock="id",
)


_INSERT = bulk.insert(tables.call, ("reference", *_COLUMNS))


_UPDATE = bulk.update(tables.call, (*_CHANGING, "trunk_cost"), key="reference", unchanged=("state",))


_GRANT = ("granted_seconds", "bundles")


_UPDATE_GRANT = bulk.update(tables.call, (*_CHANGING, *_TRUNK, *_GRANT), key="reference", unchanged=("state",))


_RENEWAL = ("reference", "at", "reason", "seconds_before", "seconds_after", "held_before", "held_after", "note")


_INSERT_RENEWAL = bulk.insert(tables.call_renewal, _RENEWAL)


_INSERT_REPORT = bulk.insert(tables.testimony, tables.testimony.c.keys(), once=True)


def _columns_of(call: Call) -> driver.Row:
    _, bundles = _grant_of(call)
    paying = (*columns_of_rate(call.rate), call.tariff_version_id, bundles)
    return (*_facts_of(call), *paying, *_ending_of(call), *_trunk_of(call))


def _ending_of(call: Call) -> driver.Row:
    witness = None if call.witness is None else str(call.witness)
    times = (call.answered_at, call.ended_at)
    return (str(call.state), *times, call.talk_ms, call.cost, witness, call.outcome, call.note)


def _trunk_of(call: Call) -> driver.Row:
    if call.trunk_id is None:
        return _NO_TRUNK
    tried = " ".join(map(str, call.trunks_tried)) or None
    rate = None if call.trunk_rate is None else text_of_rate(call.trunk_rate)
    return (call.trunk_id, tried, rate, call.trunk_cost)


_NO_TRUNK = (None,) * len(_TRUNK)


def _grant_of(call: Call) -> driver.Row:
    return (call.granted_seconds, msgspec.json.encode(call.bundles).decode() if call.bundles else None)


def _renewal_columns(renewal: CallRenewal) -> driver.Row:
    at, reason = renewal.at, str(renewal.reason)
    return (renewal.reference, at, reason, *_renewal_facts(renewal))


_renewal_facts = attrgetter(*_RENEWAL[3:])


def _report_columns(report: WitnessReport) -> driver.Row:
    reference, witness, *rest = _report_facts(report)
    return (reference, str(witness), *rest)


_report_facts = attrgetter(*tables.testimony.c.keys())


def call_from_row(row: Any) -> Call:
    """Return the call of a row."""
    return _call_from_columns(*(getattr(row, name) for name in _COLUMNS))


def _call_from_columns(
    server: str,
    uniqueid: str,
    leg: int,
    authorization: str,
    channel: str,
    subscriber_id: int,
    account_id: int,
    from_number: str,
    to_number: str,
    callee_id: int | None,
    granted_seconds: int,
    answered_early: Any,
    started_at: Any,
    group_id: int | None,
    dialled: str | None,
    rate_prefix: str,
    rate_name: str,
    connect_fee: int,
    price: int,
    increment_seconds: int,
    rate_detail: str | None,
    tariff_version_id: int | None,
    bundles: str | None,
    state: str,
    answered_at: Any,
    ended_at: Any,
    talk_ms: int | None,
    cost: int | None,
    witness: str | None,
    outcome: str,
    note: str,
    trunk_id: int | None,
    trunks_tried: str | None,
    trunk_rate: str | None,
    trunk_cost: int | None,
) -> Call:
    """Return the call of these `_COLUMNS`, as SQLAlchemy or the driver gives them."""
    return Call(
        server=server,
        uniqueid=uniqueid,
        leg=leg,
        authorization=authorization,
        channel=channel,
        subscriber_id=subscriber_id,
        account_id=account_id,
        from_number=from_number,
        to_number=to_number,
        callee_id=callee_id,
        rate=rate_from_columns(rate_prefix, rate_name, connect_fee, price, increment_seconds, rate_detail),
        tariff_version_id=tariff_version_id,
        bundles=() if bundles is None else _decode_bundles(bundles),
        granted_seconds=granted_seconds,
        answered_early=bool(answered_early),
        started_at=driver.parse_timestamp(started_at),
        state=_STATES[state],
        answered_at=driver.parse_timestamp(answered_at),
        ended_at=driver.parse_timestamp(ended_at),
        talk_ms=talk_ms,
        cost=cost,
        witness=None if witness is None else _WITNESSES[witness],
        outcome=outcome,
        note=note,
        group_id=group_id,
        dialled=dialled,
        trunk_id=trunk_id,
        trunks_tried=() if trunks_tried is None else tuple(map(int, trunks_tried.split())),
        trunk_rate=None if trunk_rate is None else rate_from_text(trunk_rate),
        trunk_cost=trunk_cost,
    )
