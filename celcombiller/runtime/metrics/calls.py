"""Metrics of calls: authorizations, ends, charges and AGI sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter, Gauge, Histogram

from celcombiller.core import errors
from celcombiller.core.model.calls import CallEnd, CallState, RenewalReason, Witness
from celcombiller.core.voice.evidence import DISCREPANCY_MS
from celcombiller.runtime.metrics.buckets import LATENCY_SECONDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from celcombiller.core.model.calls import Settlement

GRANTED = "GRANTED"
ALWAYS_ALLOWED = "ALWAYS_ALLOWED"
ALLOWED_ON_FAILURE = "ALLOWED_ON_FAILURE"

RESULTS = (
    GRANTED,
    *(each.code for each in (errors.InsufficientBalance, errors.UnknownSubscriber, errors.SubscriberDisabled)),
    *(each.code for each in (errors.BadNumber, errors.NoRate, errors.BillerError)),
    *(each.code for each in (errors.Barred, errors.TooManyCalls, errors.GroupFull)),
    *(each.code for each in (errors.NoTrunk, errors.TooExpensive, errors.SubscriberSuspended)),
    ALWAYS_ALLOWED,
    ALLOWED_ON_FAILURE,
)
"""The results of an authorization. ``CELCOMBILLER_RESULT`` is ``GRANTED`` for the last two as well: the caller may
call, but the ledger did not decide it."""


DESTINATIONS_MAX = 200
"""The destinations that have counters of their own: a label of every rate of a tariff would be too many."""


AGI_LIMITS = ("allow", "connections_max", "connections_per_address_max")
"""The settings in ``[agi]`` that refuse a connection."""


HANGUPS = (*CallEnd, "order", "beyond its grant")
"""Why the biller hangs up live calls."""


ORDER_RESULTS = ("done", "failed")
"""What became of an order to a live call."""


SCRIPTS = ("caller", "reducer", "balance", "sms")
"""The AGI scripts."""


_WORDS = {True: "yes", False: "no"}
"""The values of the label ``answered``."""


@dataclass(frozen=True, slots=True)
class CallMetrics:
    """The instruments of calls."""

    authorizations: Counter
    authorization_seconds: Histogram
    talk_seconds: Counter
    charged_credits: Counter
    agi_sessions: Gauge
    agi_sessions_max: Gauge
    script_faults: Counter
    updates_pending: Gauge
    updates_lost: Counter
    failovers: Counter
    trunk_calls: Counter
    trunk_talk_seconds: Counter
    trunk_charged_credits: Counter
    trunk_cost_credits: Counter
    destination_calls: Counter
    destination_talk_seconds: Counter
    hangups: Counter
    orders: Counter
    _destinations: set[str]
    _ways: dict[tuple[str, bool], tuple[Counter, Counter]]
    _by_trunk: dict[tuple[str, bool], tuple[Counter, Counter]]
    _margins: dict[str, tuple[Counter, Counter]]
    """The counters by their labels: to find them by ``labels`` costs ten function calls each."""
    _agi_limited: dict[str, Counter]
    _by_result: dict[str, Counter]
    _ended: dict[tuple[CallState, Witness], Counter]
    _confirmed: dict[Witness, Counter]
    _differed: dict[Witness, Counter]
    _renewed: dict[RenewalReason, Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        authorizations = Counter(
            "celcombiller_authorizations",
            "Calls that asked for authorization, by its result (the channel variable CELCOMBILLER_RESULT).",
            ("result",),
            registry=registry,
        )
        authorization_seconds = Histogram(
            "celcombiller_authorization_duration_seconds",
            "How long callers waited for the durable decision of the ledger; late decisions are included.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        ended = Counter(
            "celcombiller_calls_ended",
            "Calls that were closed: settled (answered and charged), released or expired, by the first witness.",
            ("state", "witness"),
            registry=registry,
        )
        confirmations = Counter(
            "celcombiller_confirmations",
            "Ends of closed calls that another witness reported as well.",
            ("witness",),
            registry=registry,
        )
        discrepancies = Counter(
            "celcombiller_discrepancies",
            "Confirmations that differ by more than a second from what was charged.",
            ("witness",),
            registry=registry,
        )
        agi_limited = Counter(
            "celcombiller_agi_limited",
            "AGI connections that were refused, by the setting in [agi] that refused them.",
            ("setting",),
            registry=registry,
        )
        renewals = Counter(
            "celcombiller_renewals",
            "Changes of what live calls are granted: the slice ended (renewal), credit came (credit), another call"
            " shares it (sharing), a limit fell (limit).",
            ("reason",),
            registry=registry,
        )
        hangups = Counter(
            "celcombiller_hangups",
            "Live calls that the biller hung up: the subscriber was disabled or deleted, the number barred, an operator"
            " wanted it (order), or its channel had lost its limit (beyond its grant).",
            ("reason",),
            registry=registry,
        )
        orders = Counter(
            "celcombiller_call_orders",
            "Orders to live calls that this biller was to carry out: done, or failed, as they came too late or Asterisk"
            " refused.",
            ("result",),
            registry=registry,
        )
        for result in ORDER_RESULTS:
            orders.labels(result)
        for why in HANGUPS:
            hangups.labels(str(why))
        script_faults = Counter(
            "celcombiller_script_faults",
            "Faults in AGI scripts; the log has a traceback of each.",
            ("script",),
            registry=registry,
        )
        for each in SCRIPTS:
            script_faults.labels(each)
        return cls(
            authorizations=authorizations,
            authorization_seconds=authorization_seconds,
            talk_seconds=Counter(
                "celcombiller_talk_seconds", "Talk of the calls that were settled.", registry=registry
            ),
            charged_credits=Counter(
                "celcombiller_charged_credits", "Voice credits that calls were charged.", registry=registry
            ),
            agi_sessions=Gauge("celcombiller_agi_sessions", "Open FastAGI sessions.", registry=registry),
            agi_sessions_max=Gauge(
                "celcombiller_agi_sessions_max", "How many may be open (agi.connections_max).", registry=registry
            ),
            script_faults=script_faults,
            updates_pending=Gauge(
                "celcombiller_updates_pending",
                "Ends of calls and messages that are not recorded yet and are tried again.",
                registry=registry,
            ),
            updates_lost=Counter(
                "celcombiller_updates_lost",
                "Ends of calls and messages given up because the database can never take what they say.",
                registry=registry,
            ),
            failovers=Counter(
                "celcombiller_trunk_failovers",
                "Dials by a trunk that failed and that another trunk follows, by DIALSTATUS.",
                ("trunk", "status"),
                registry=registry,
            ),
            trunk_calls=Counter(
                "celcombiller_trunk_calls",
                "Calls that ended by a trunk, the last one that each tried: answered (yes) or not (no).",
                ("trunk", "answered"),
                registry=registry,
            ),
            trunk_talk_seconds=Counter(
                "celcombiller_trunk_talk_seconds", "Talk of the calls by a trunk.", ("trunk",), registry=registry
            ),
            trunk_charged_credits=Counter(
                "celcombiller_trunk_charged_credits",
                "Credits that calls by a trunk were charged, where its cost is known: less that cost, the margin.",
                ("trunk",),
                registry=registry,
            ),
            trunk_cost_credits=Counter(
                "celcombiller_trunk_cost_credits",
                "Credits that calls by a trunk cost the operator, by the provider's tariff.",
                ("trunk",),
                registry=registry,
            ),
            destination_calls=Counter(
                "celcombiller_destination_calls",
                f"Calls that ended, by the name of their rate (the first {DESTINATIONS_MAX}; then: other).",
                ("destination", "answered"),
                registry=registry,
            ),
            destination_talk_seconds=Counter(
                "celcombiller_destination_talk_seconds",
                "Talk of calls, by the name of their rate.",
                ("destination",),
                registry=registry,
            ),
            hangups=hangups,
            orders=orders,
            _destinations=set(),
            _ways={},
            _by_trunk={},
            _margins={},
            _agi_limited={each: agi_limited.labels(each) for each in AGI_LIMITS},
            _by_result={each: authorizations.labels(each) for each in RESULTS},
            _ended={
                (state, each): ended.labels(state, each)
                for state in (CallState.SETTLED, CallState.RELEASED, CallState.EXPIRED)
                for each in Witness
            },
            _confirmed={each: confirmations.labels(each) for each in Witness},
            _differed={each: discrepancies.labels(each) for each in Witness},
            _renewed={each: renewals.labels(each) for each in RenewalReason},
        )

    def count_authorization(self, result: str) -> None:
        """Count an authorization by its result, one of `RESULTS`."""
        (self._by_result.get(result) or self.authorizations.labels(result)).inc()

    def count_limit(self, setting: str) -> None:
        """Count a refused AGI connection by its setting, one of `AGI_LIMITS`."""
        self._agi_limited[setting].inc()

    def count_renewal(self, reason: RenewalReason) -> None:
        """Count a change of what a live call is granted."""
        self._renewed[reason].inc()

    def count_hangup(self, reason: str) -> None:
        """Count a live call that the biller hung up, by one of `HANGUPS`."""
        self.hangups.labels(reason).inc()

    def count_order(self, *, done: bool) -> None:
        """Count an order to a live call, by whether it was carried out."""
        self.orders.labels(ORDER_RESULTS[not done]).inc()

    def count_failover(self, trunk: str, status: str) -> None:
        """Count a Dial by a trunk that another trunk follows."""
        self.failovers.labels(trunk, status).inc()

    def count_way(
        self,
        destination: str,
        trunk: str,
        *,
        answered: bool,
        talk_seconds: float = 0.0,
        charged: int = 0,
        trunk_cost: int | None = None,
    ) -> None:
        """Count a call that ended by its destination and its trunk; an empty trunk is none."""
        calls, talk = self._ways.get((destination, answered)) or self._add_way(destination, answered=answered)
        calls.inc()
        talk.inc(talk_seconds)
        if not trunk:
            return
        by_trunk, talk_by_trunk = self._by_trunk.get((trunk, answered)) or self._add_trunk(trunk, answered=answered)
        by_trunk.inc()
        talk_by_trunk.inc(talk_seconds)
        if trunk_cost is not None:
            charged_by_trunk, cost_of_trunk = self._margins.get(trunk) or self._add_margin(trunk)
            charged_by_trunk.inc(charged)
            cost_of_trunk.inc(trunk_cost)

    def _add_way(self, destination: str, *, answered: bool) -> tuple[Counter, Counter]:
        """Return the counters of a destination: its own, or those of all that come after `DESTINATIONS_MAX` others."""
        name = destination
        if name not in self._destinations:
            if len(self._destinations) < DESTINATIONS_MAX:
                self._destinations.add(name)
            else:
                name = "other"
        counters = self.destination_calls.labels(name, _WORDS[answered]), self.destination_talk_seconds.labels(name)
        if name == destination:
            self._ways[destination, answered] = counters
        return counters

    def _add_trunk(self, trunk: str, *, answered: bool) -> tuple[Counter, Counter]:
        counters = self.trunk_calls.labels(trunk, _WORDS[answered]), self.trunk_talk_seconds.labels(trunk)
        self._by_trunk[trunk, answered] = counters
        return counters

    def _add_margin(self, trunk: str) -> tuple[Counter, Counter]:
        counters = self.trunk_charged_credits.labels(trunk), self.trunk_cost_credits.labels(trunk)
        self._margins[trunk] = counters
        return counters

    def count_end(self, witness: Witness, settlement: Settlement) -> None:
        """Count the end of a call that a witness reported."""
        call = settlement.call
        if settlement.first:
            self._ended[call.state, witness].inc()
            self.talk_seconds.inc((call.talk_ms or 0) / 1000)
            self.charged_credits.inc(call.cost or 0)
            self.count_way(
                call.rate.name or call.rate.prefix or "all",
                settlement.trunk,
                answered=call.state is CallState.SETTLED,
                talk_seconds=(call.talk_ms or 0) / 1000,
                charged=call.cost or 0,
                trunk_cost=call.trunk_cost,
            )
        elif settlement.difference_ms is not None:
            self._confirmed[witness].inc()
            if abs(settlement.difference_ms) > DISCREPANCY_MS:
                self._differed[witness].inc()
