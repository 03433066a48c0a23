"""Whether a call is admitted, and by which trunks it goes: prefixes, limits of simultaneous calls, routes.

Pure but for `CallAdmission.load`. An installation without groups, routes and limits does nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from celcombiller.core.errors import Barred, GroupFull, NoRate, NoTrunk, TooExpensive, TooManyCalls
from celcombiller.core.model.tariffs import Service
from celcombiller.core.model.text import format_count
from celcombiller.core.rating.pricing import affordable
from celcombiller.core.routing.open_calls import OpenCalls
from celcombiller.core.routing.prefixes import is_barred
from celcombiller.core.routing.trunk_choice import choose_trunks, find_route, is_usable
from celcombiller.core.routing.trunk_dial import make_trunk_dial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.routing import Trunk, TrunkDial
    from celcombiller.core.model.subscribers import Group, Subscriber
    from celcombiller.core.model.tariffs import Rate


@dataclass(slots=True)
class CallAdmission:
    """The limits and routes of one state of the catalogue, and the open calls that they limit."""

    catalogue: Catalogue
    open: OpenCalls = field(default_factory=OpenCalls)
    _rates: dict[tuple[int, str, datetime], Rate | None] = field(default_factory=dict)
    """What `rate_of` found: a route by cost asks of each trunk, and a call of the one it takes."""

    @classmethod
    def load(
        cls,
        tx: Connection,
        catalogue: Catalogue,
        wanted: Iterable[tuple[Subscriber, str]],
        trunk_ids: Iterable[int] = (),
    ) -> CallAdmission:
        """Count, under locks, the open calls that limit these payers, and the trunks for the numbers that they call.

        An empty number is on-net. ``trunk_ids``: trunks that open calls may take next. What has no limit is neither
        locked nor counted. The accounts of the payers must be locked already.
        """
        admission = cls(catalogue)
        subscribers, groups = set[int](), set[int]()
        trunks = {trunk_id for trunk_id in trunk_ids if admission._is_limited(trunk_id)}
        for payer, number in wanted:
            group = admission.group_of(payer)
            if _calls_max(payer, group) is not None:
                subscribers.add(payer.id)
            if group is not None and group.calls_max is not None:
                groups.add(group.id)
            route = find_route(catalogue.routes, number) if number else None
            if route is not None:
                trunks.update(each.trunk_id for each in route.trunks if admission._is_limited(each.trunk_id))
        if subscribers or groups or trunks:
            admission.open = OpenCalls.load(tx, subscribers, groups, trunks)
        return admission

    def group_of(self, payer: Subscriber) -> Group | None:
        """Return the group of a subscriber."""
        return None if payer.group_id is None else self.catalogue.groups.get(payer.group_id)

    def check(self, payer: Subscriber, number: str) -> None:
        """Raise `Barred`, `TooManyCalls` or `GroupFull` where a subscriber may not begin a call to this number now."""
        group = self.group_of(payer)
        self.check_prefixes(payer, number)
        calls_max = _calls_max(payer, group)
        if calls_max is not None and self.open.of_subscribers.get(payer.id, calls_max) >= calls_max:
            raise TooManyCalls(f"{payer.username} may have {format_count(calls_max, 'call')} at once (calls_max)")
        if group is None or group.calls_max is None:
            return
        if self.open.of_groups.get(group.id, group.calls_max) >= group.calls_max:
            raise GroupFull(
                f"the group {group.name} may have {format_count(group.calls_max, 'call')} at once (its calls_max)"
            )

    def check_prefixes(self, payer: Subscriber, number: str) -> None:
        """Raise `Barred` where a subscriber may not call this number."""
        group = self.group_of(payer)
        barred = payer.barred if payer.barred is not None or group is None else group.barred
        allowed = payer.allowed if payer.allowed is not None or group is None else group.allowed
        if (barred or allowed) and is_barred(number, barred or (), allowed or ()):
            raise Barred("the prefixes that this subscriber may call do not include the number")

    def seconds_max(self, payer: Subscriber, most: int) -> int:
        """Return the seconds that a call may last at most: those of the group, where it has fewer."""
        group = self.group_of(payer)
        return most if group is None or group.call_seconds_max is None else min(most, group.call_seconds_max)

    def cost_max(self, call: Call) -> int | None:
        """Return the credits that a call may cost the balance at most; ``None``: any."""
        group = None if call.group_id is None else self.catalogue.groups.get(call.group_id)
        return None if group is None else group.call_cost_max

    def spendable(self, call: Call, available: int) -> int:
        """Return the credits that a call may cost the balance at most, of those available."""
        most = self.cost_max(call)
        return available if most is None else min(available, most)

    @staticmethod
    def check_cost(call: Call, available: int, spendable: int) -> None:
        """Raise `TooExpensive` where a call that gets no second would get one for all that is available."""
        if spendable < available and affordable(call.rate, available, call.started_at, call.granted_seconds):
            raise TooExpensive(
                f"a call of the group may cost {spendable} credits, and its first increment costs more (call_cost_max)"
            )

    def has_route(self, number: str) -> bool:
        """Return whether a number outside has a route."""
        return find_route(self.catalogue.routes, number) is not None

    def route(self, call: Call) -> list[TrunkDial]:
        """Return how a new call is dialled, if it goes outside by a route. Raises as `list_trunks` does."""
        if call.callee_id is not None or not self.catalogue.routes:
            return []
        return self.list_trunks(call.to_number, call.from_number, call.started_at, call.authorization)

    def find_first(self, call: Call, dials: Sequence[TrunkDial]) -> tuple[int | None, Rate | None]:
        """Return the trunk by which a new call is dialled first, and what its provider charges; None: by none."""
        if not dials:
            return None, None
        trunk = self.catalogue.trunks[dials[0].trunk_id]
        return trunk.id, self.rate_of(trunk, call.to_number, call.started_at)

    def trunk_name(self, call: Call) -> str:
        """Return the name of the trunk that a call went by last; empty: by none that is known."""
        trunk = None if call.trunk_id is None else self.catalogue.trunks.get(call.trunk_id)
        return "" if trunk is None else trunk.name

    def list_trunks(self, number: str, caller: str, at: datetime, lot: str) -> list[TrunkDial]:
        """Return how a number outside is dialled by the trunks of its route, in the order in which they are tried.

        Empty: it has no route. Raises `NoTrunk` where it has one, and no trunk of it can take the call.
        """
        route = find_route(self.catalogue.routes, number)
        if route is None:
            return []
        chosen = choose_trunks(
            route,
            self.catalogue.trunks,
            lambda trunk: self.rate_of(trunk, number, at),
            at,
            lot,
            self._full(each.trunk_id for each in route.trunks),
        )
        found = [each for each in (make_trunk_dial(trunk, number, caller) for trunk in chosen) if each is not None]
        if not found:
            raise NoTrunk(
                f"all trunks of the route {route.prefix!r} are full or disabled: enable one, or raise its calls_max"
            )
        return found

    def list_trunks_again(self, call: Call) -> list[TrunkDial]:
        """Return how a call that has its trunk is dialled: by that, then by the others that it has not tried."""
        trunk = None if call.trunk_id is None else self.catalogue.trunks.get(call.trunk_id)
        if trunk is None:
            return []
        first = make_trunk_dial(trunk, call.to_number, call.from_number)
        try:
            others = self.list_trunks(call.to_number, call.from_number, call.started_at, call.authorization)
        except NoTrunk:
            others = []
        tried = {trunk.id, *call.trunks_tried}
        return [*filter(None, (first,)), *(each for each in others if each.trunk_id not in tried)]

    def next_trunk(self, call: Call, trunk_ids: Iterable[int]) -> Trunk:
        """Return the first of these trunks that an open call has not tried and that can take it. Raises `NoTrunk`."""
        ids = [each for each in trunk_ids if each != call.trunk_id and each not in call.trunks_tried]
        full = self._full(ids)
        for trunk in map(self.catalogue.trunks.get, ids):
            if trunk is not None and is_usable(trunk, full):
                return trunk
        raise NoTrunk("the other trunks of the route are full or disabled")

    def rate_of(self, trunk: Trunk, number: str, at: datetime) -> Rate | None:
        """Return what the provider of a trunk charges for calls to a number that begin at this time; None: unknown."""
        key = trunk.id, number, at
        if key not in self._rates:
            self._rates[key] = self._find_rate(trunk, number, at)
        return self._rates[key]

    def _find_rate(self, trunk: Trunk, number: str, at: datetime) -> Rate | None:
        version = None if trunk.tariff_id is None else self.catalogue.version_at(trunk.tariff_id, at)
        tariff = None if version is None else version.tariffs.get(Service.VOICE)
        if tariff is None:
            return None
        try:
            return tariff.rate_for(number, at)
        except NoRate:
            return None

    def _full(self, trunk_ids: Iterable[int]) -> Collection[int]:
        """Return the trunks that can take no more calls; one whose calls were not counted is taken for full."""
        full = set()
        for trunk_id in trunk_ids:
            trunk = self.catalogue.trunks.get(trunk_id)
            most = None if trunk is None else trunk.calls_max
            if most is not None and self.open.of_trunks.get(trunk_id, most) >= most:
                full.add(trunk_id)
        return full

    def _is_limited(self, trunk_id: int) -> bool:
        trunk = self.catalogue.trunks.get(trunk_id)
        return trunk is not None and trunk.calls_max is not None


def list_all_trunks(catalogue: Catalogue, number: str, caller: str, at: datetime, lot: str) -> list[TrunkDial]:
    """Return how a number is dialled by the trunks of its route, full ones too: for calls that no limit may stop."""
    route = find_route(catalogue.routes, number)
    if route is None:
        return []
    rate_of = partial(CallAdmission(catalogue).rate_of, number=number, at=at)
    chosen = choose_trunks(route, catalogue.trunks, rate_of, at, lot)
    return [each for each in (make_trunk_dial(trunk, number, caller) for trunk in chosen) if each is not None]


def _calls_max(payer: Subscriber, group: Group | None) -> int | None:
    """Return how many calls a subscriber may have at once: their own limit, else that of the group for each."""
    if payer.calls_max is not None or group is None:
        return payer.calls_max
    return group.subscriber_calls_max
