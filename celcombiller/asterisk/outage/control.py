"""What decides on calls while the ledger is away, and follows each that it let go until the ledger has charged it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.asterisk.outage.journal import Journal
from celcombiller.asterisk.outage.journal_entries import Done, Lost, Went, ended_line
from celcombiller.asterisk.outage.journal_file import JournalFault
from celcombiller.asterisk.outage.journal_place import find_journal, name_ledger
from celcombiller.config.charging_policy import outage_rules
from celcombiller.core.charging.outage import (
    extend_without_ledger,
    grant_without_ledger,
    make_wish,
    name_subscriber,
)
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.rating.pricing import price, seconds_of
from celcombiller.core.subscribers.known_subscribers import KnownSubscribers
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.runtime.process.process_identity import identify_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.python.failure import Failure

    from celcombiller.asterisk.outage.journal_entries import JournalEntries, JournalEntry, Line
    from celcombiller.config.tables import Config
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.charging.outage import LedgerlessGrant, LedgerlessWish, OutageRule, OutageRules
    from celcombiller.core.charging.requests import Initiate, Terminate
    from celcombiller.core.model.calls import Call, CallReport, Settlement, Witness
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.runtime.metrics import Metrics

_LOG = Logger()

NORMAL, AWAY, CATCHING_UP = "normal", "ledger away", "charging calls that went without the ledger"
"""The modes of a biller, as /readyz says them."""


@dataclass(frozen=True, slots=True)
class LedgerlessCall:
    """A call that may be dialled without the ledger, for so many ``seconds``. ``callee``: a subscriber who is known."""

    seconds: int
    callee: Subscriber | None
    rule: OutageRule


def make_control(reactor: Any, config: Config, catalogue: CatalogueHolder, metrics: Metrics) -> OutageControl:
    """Return the control of these settings, with its journal; it knows no subscribers yet."""
    return OutageControl(
        config,
        outage_rules(config),
        KnownSubscribers(config.calls.known_subscribers_max, config.numbering_plan),
        catalogue,
        Journal(reactor, find_journal(config), name_ledger(config)),
        metrics,
    )


class OutageControl:
    """Decides on calls without the ledger by `OutageRules`, within the exposure that the journal shows."""

    def __init__(
        self,
        config: Config,
        rules: OutageRules,
        known: KnownSubscribers,
        catalogue: CatalogueHolder,
        journal: Journal,
        metrics: Metrics,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._numbering = config.numbering_plan
        self.rules = rules
        self.known = known
        self._catalogue = catalogue
        self.journal = journal
        self._metrics = metrics.outage
        self._now = now
        self.owner = identify_process()
        self._in_hand: dict[str, LedgerlessWish] = {}
        """What this process let go and follows to its end, by authorization."""
        self._being_written: dict[str, Line] = {}
        """The last word on each call that is on its way to the journal."""
        self._unwritten: dict[str, Line] = {}
        """The last word on each call that could not be written: it is tried again."""
        self._limits: dict[str, int] = {}
        """To how many seconds calls in progress went on, by their references."""
        self.away_since: datetime | None = None
        self._let_go = 0
        self._metrics.watch(
            away=lambda: self.away_since is not None,
            live=lambda: journal.state.live,
            waiting=lambda: journal.state.waiting,
            exposed_credits=lambda: journal.state.exposed_credits,
            fault=lambda: journal.state.fault != "",
            known=lambda: len(known),
        )

    # -- the mode ------------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """What this biller does now: `NORMAL`, `AWAY` or `CATCHING_UP`."""
        if self.away_since is not None:
            return AWAY
        return CATCHING_UP if self.journal.state.waiting > self.journal.state.live else NORMAL

    def record_failure(self, reason: str) -> None:
        """Record that the ledger gave no answer."""
        if self.away_since is None:
            self.away_since, self._let_go = self._now(), 0
            allowed = [repr(each.prefix) for each in self.rules.rules if each.allow]
            _LOG.error(
                "The ledger is away: {reason}. New calls: {rules}, others are {default}; calls in progress go on to the"
                " end of what they were granted",
                reason=reason,
                rules=f"those to {', '.join(allowed)} within limits" if allowed else "no class is let go by [[outage]]",
                default="allowed" if self.rules.default.allow else "denied",
            )

    def record_answer(self) -> None:
        """Record that the ledger gave an answer."""
        if self.away_since is not None:
            seconds = (self._now() - self.away_since).total_seconds()
            self.away_since = None
            _LOG.warn(
                "The ledger is back after {seconds:.0f} s: {let_go} calls went without it here, and {waiting} wait for"
                " their charge",
                seconds=seconds,
                let_go=self._let_go,
                waiting=self.journal.state.waiting,
            )

    # -- a call --------------------------------------------------------------------------------------------------------

    async def let_go(self, request: Initiate) -> LedgerlessCall:
        """Return the call that may be dialled; it is in the journal, on the disk.

        Raises what `make_wish` and `grant_without_ledger` raise, and `JournalFault`.
        """
        calls, now = self._config.calls, self._now()
        wish = make_wish(
            request,
            self.known,
            self._catalogue.current,
            self.rules,
            self._numbering,
            max_call_seconds=calls.max_call_seconds,
            suspended_allowed=self._config.fees.suspended_allowed,
            ring_seconds=calls.ring_seconds,
            now=now,
        )

        def admit(entries: JournalEntries) -> tuple[Sequence[Line], LedgerlessGrant]:
            grant = grant_without_ledger(wish, entries.exposures)
            return [self._went(request, wish, grant)], grant

        self._in_hand[request.authorization] = wish
        try:
            grant = await self.journal.change(admit)
        except BaseException as error:
            del self._in_hand[request.authorization]
            if isinstance(error, JournalFault):
                self._metrics.journal_faults.inc()
            raise
        self._let_go += 1
        return LedgerlessCall(grant.seconds, wish.callee, wish.rule)

    def _went(self, request: Initiate, wish: LedgerlessWish, grant: LedgerlessGrant) -> Went:
        return Went(
            id=request.authorization,
            at=wish.at,
            owner=self.owner,
            caller=wish.caller,
            seconds=grant.seconds,
            credits=grant.credits,
            ring_seconds=wish.ring_seconds,
            server=request.server,
            uniqueid=request.uniqueid,
            channel=request.channel,
            account_code=request.account_code,
            caller_number=request.caller_number,
            called_number=plain_number(request.called_number),
            answered_early=request.answered_early,
        )

    async def go_on(self, call: Call, answered_at: datetime) -> int:
        """Return to how many seconds since its answer a call may talk whose grant cannot be renewed; 0: no more.

        It is in the journal by then: whoever settles the call charges up to there (`with_limit`).
        """
        rule = self.rules.find(call.to_number, on_net=call.callee_id is not None)
        if not rule.live_seconds_max:
            return 0
        known = self.known.find(call.subscriber_id)

        def extend(entries: JournalEntries) -> tuple[Sequence[Line], LedgerlessGrant | None]:
            if entries.find(call.reference) is not None:
                return [], None
            grant = extend_without_ledger(call, rule, known, entries.exposures, answered_at)
            return ([] if grant is None else [self._goes_on(call, grant)]), grant

        try:
            grant = await self.journal.change(extend)
        except JournalFault:
            return 0
        if grant is None:
            return 0
        self._limits[call.reference] = grant.seconds
        return grant.seconds

    def _goes_on(self, call: Call, grant: LedgerlessGrant) -> Went:
        return Went(
            id=call.reference,
            at=self._now(),
            owner=self.owner,
            caller=name_subscriber(call.subscriber_id),
            seconds=grant.seconds,
            credits=grant.credits,
            ring_seconds=0,
            server=call.server,
            uniqueid=call.uniqueid,
            channel=call.channel,
            account_code="",
            caller_number=call.from_number,
            called_number=call.to_number,
            leg=call.leg,
        )

    def with_limit(self, end: Terminate) -> Terminate:
        """Return the end of a call with the limit to which it went on without the ledger, if it did."""
        reference = self._find_extended(end)
        return end if reference is None else replace(end, limit_seconds=self._limits[reference])

    def _find_extended(self, end: Terminate) -> str | None:
        """Return the reference of the call that this is the end of, if it went on without the ledger."""
        if end.leg is not None:
            reference = f"call:{end.server}:{end.uniqueid}:{end.leg}"
            return reference if reference in self._limits else None
        channel = f"call:{end.server}:{end.uniqueid}:"
        return max((each for each in self._limits if each.startswith(channel)), default=None)

    def learn_limits(self, entries: Iterable[JournalEntry]) -> None:
        """Learn from the journal which calls went on, also before this process was started."""
        self._limits = {each.went.id: each.went.seconds for each in entries if each.went.leg is not None}

    def withdraw(self, authorization: str) -> None:
        """Note that a call was not dialled in the end."""
        self._in_hand.pop(authorization, None)
        self._write(authorization, Done(authorization, "it was not dialled"))

    def has_in_hand(self, authorization: str) -> bool:
        """Return whether this process will report the end of a call by itself."""
        return authorization in self._in_hand

    def record_end(self, authorization: str, witness: Witness, report: CallReport) -> None:
        """Note how a call ended, before the ledger is asked to charge it."""
        if self.journal.exists:
            cost, wish = 0, self._in_hand.get(authorization)
            if report.answered and wish is not None and wish.rate is not None:
                talk_ms = report.talk_ms if report.talk_ms is not None else report.lasted_ms
                cost = price(wish.rate, seconds_of(talk_ms or 0), wish.at)
            self._write(authorization, ended_line(authorization, witness, report, cost))

    def record_loss(self, authorization: str) -> None:
        """Note that the session of a call broke off: others have to see its end."""
        if self._in_hand.pop(authorization, None) is not None:
            self._write(authorization, Lost(authorization))

    def record_charge(self, end: Terminate, result: Settlement | BillerError) -> None:
        """Note that the ledger has a call, or refuses it for good."""
        asked = end.unauthorized_request
        if isinstance(result, StoreUnavailable):
            return
        if asked is None:
            reference = self._find_extended(end)
            if reference is not None:
                del self._limits[reference]
                self._write(reference, Done(reference))
            return
        if not self.journal.exists:
            return
        self._in_hand.pop(asked.authorization, None)
        refusal = f"{result.code}: {result}" if isinstance(result, BillerError) else ""
        if refusal:
            self._metrics.lost.inc()
            _LOG.error(
                "A call that went without the ledger is not charged: {channel} of {caller} at {server}: {reason}",
                channel=end.uniqueid,
                caller=asked.account_code or asked.caller_number,
                server=end.server,
                reason=refusal,
            )
        self._write(asked.authorization, Done(asked.authorization, refusal))

    def _write(self, authorization: str, line: Line) -> None:
        """Write a line that nothing waits for; where it cannot be written, it is tried again by `write_again`."""
        self._unwritten.pop(authorization, None)
        self._being_written[authorization] = line

        def record_result(failure: Failure | None) -> None:
            if self._being_written.get(authorization) is line:
                del self._being_written[authorization]
                if failure is not None:
                    self._unwritten[authorization] = line
            if failure is not None and not failure.check(JournalFault):
                _LOG.failure("A line of the journal was not written", failure)

        self.journal.write(line).addBoth(record_result)

    def write_again(self) -> None:
        """Try again what could not be written, also where the journal wrote other lines since."""
        for authorization, line in [*self._unwritten.items()]:
            self._write(authorization, line)

    def callee_of(self, number: str) -> Subscriber | None:
        """Return the subscriber who has a number, as far as the biller knows them."""
        return self.known.directory.find_callee(number)
