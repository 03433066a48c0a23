"""The judgement: every law of the ledger, against the script's own record of who talked how long."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.chaos.asterisk.plan import TWO_LINES, CallRecord

if TYPE_CHECKING:
    from tests.chaos.scene import FaultEntry, Scene

EXACT_MS = 60
"""Asterisk's own figure and ours are read one after the other; AMI's stamps are of two events."""
EXACT_REAL_MS = 300
"""The same on the real Asterisk, whose events are stamped when a thread of its has the time."""
STEP_MS = 1500
"""What is left of a step of Asterisk's clock: it is measured by messages on their way."""
SEEN_SECONDS = 2.5
"""While calls are up, that their server is alive is recorded every second; a busy machine takes longer."""
LATE_CUT_MS = 1000
"""Talk beyond the grant by no more than this is not charged; more is charged whole."""
BACK_SECONDS = 7.0
"""A link that is cut, or a biller that is killed, is back after this at most, and has compared what is open."""


@dataclass
class Ledger:
    """What the ledger has of the calls, by uniqueid."""

    calls: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    charges: dict[str, int] = field(default_factory=dict)
    open_holds: list[str] = field(default_factory=list)
    balances: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """By number: posted, held, floor, and what calls have charged."""
    reports: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def read_ledger(url: str) -> Ledger:
    """Read all that is judged."""
    call, hold, transfer, account = tables.call, tables.hold, tables.transfer, tables.account
    subscriber, report = tables.subscriber, tables.testimony
    ledger = Ledger()
    engine = open_engine(url, lock_seconds=10)
    with engine.connect() as tx:
        for row in tx.execute(sa.select(call).order_by(call.c.id)):
            ledger.calls[row.uniqueid].append(row)
        for row in tx.execute(
            sa.select(transfer.c.reference, transfer.c.amount).where(transfer.c.reference.like("call:%"))
        ):
            assert row.reference not in ledger.charges, f"{row.reference} is charged twice"
            ledger.charges[row.reference] = row.amount
        ledger.open_holds = list(tx.execute(sa.select(hold.c.reference).where(hold.c.state == "open")).scalars())
        for row in tx.execute(sa.select(report).order_by(report.c.at)):
            ledger.reports[row.reference].append(row)
        spent = sa.select(sa.func.coalesce(sa.func.sum(transfer.c.amount), 0)).where(
            transfer.c.debit_account_id == account.c.id, transfer.c.reference.like("call:%")
        )
        rows = tx.execute(
            sa.select(subscriber.c.clid, account.c.posted, account.c.held, account.c.floor, spent.scalar_subquery())
            .join(account, account.c.subscriber_id == subscriber.c.id)
            .where(account.c.kind == "voice", subscriber.c.clid != None)  # noqa: E711
        )
        ledger.balances = {row[0]: tuple(row[1:]) for row in rows}
    engine.dispose()
    return ledger


def open_calls(url: str) -> int:
    """Count the calls that are open."""
    engine = open_engine(url, lock_seconds=2)
    try:
        with engine.connect() as tx:
            return tx.execute(sa.select(sa.func.count()).where(tables.call.c.state == "open")).scalar_one()
    finally:
        engine.dispose()


@dataclass
class Judge:
    """Compares the ledger with the records of a run."""

    scene: Scene
    records: list[CallRecord]
    ledger: Ledger
    audit: dict[str, Any]
    broken: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def judge(self) -> list[str]:
        """Return each broken law, in words."""
        if not self.audit["ok"]:
            self.broken.append(f"audit: {self.audit['differences']}")
        if self.ledger.open_holds:
            self.broken.append(f"{len(self.ledger.open_holds)} holds are open: {self.ledger.open_holds[:5]}")
        for record in self.records:
            for fault in self._faults_of(record):
                self.broken.append(f"{fault}\n{self.history(record)}")
        known = {record.uniqueid for record in self.records}
        strangers = [uniqueid for uniqueid in self.ledger.calls if uniqueid not in known]
        if strangers:
            self.broken.append(f"the ledger has calls that were not made: {strangers[:5]}")
        self._judge_balances()
        return self.broken

    def _judge_balances(self) -> None:
        by_number: dict[str, int] = defaultdict(int)
        for rows in self.ledger.calls.values():
            for row in rows:
                by_number[row.from_number] += row.cost or 0
                if row.state == "open":
                    record = next((each for each in self.records if each.uniqueid == row.uniqueid), None)
                    told = f"\n{self.history(record)}" if record else ""
                    self.broken.append(f"call {row.reference} is open{told}")
        for number, credit in self.scene.credit.items():
            posted, held, floor, spent = self.ledger.balances[number]
            if held:
                self.broken.append(f"{number}: {held} credits are held though nothing is open")
            if posted != credit - spent or spent != by_number[number]:
                told = f"{credit} - {spent} charged (calls say {by_number[number]})"
                self.broken.append(f"{number}: posted {posted} is not {told}")
            if posted < floor and not self._says_why(number):
                self.broken.append(f"{number}: posted {posted} is below the floor {floor}, and no call says why")

    def _says_why(self, number: str) -> bool:
        rows = (row for rows in self.ledger.calls.values() for row in rows)
        return any(row.note for row in rows if row.from_number == number)

    # -- one call ----------------------------------------------------------------------------------------------------

    def _faults_of(self, record: CallRecord) -> list[str]:
        rows = self.ledger.calls.get(record.uniqueid, [])
        settled = [row for row in rows if row.state == "settled"]
        charged = [row for row in rows if self.ledger.charges.get(row.reference, 0)]
        if record.answered is None:
            self.counts["not answered"] += 1
            return [f"not answered, and charged {settled[0].cost}"] if settled else []
        if not rows:
            return ["answered, and the ledger does not know it"]
        if len(settled) > 1 or len(charged) > 1:
            return ["answered once, and charged twice"]
        low, high, why = self._bounds(record, granted_ms=max(row.granted_seconds for row in rows) * 1000)
        self.counts[why] += 1
        if not settled:
            return [] if low <= 0 and why != "exact" else [f"answered ({why}), and free"]
        (row,) = settled
        faults = []
        limit_ms = row.granted_seconds * 1000
        billed_ms = limit_ms if limit_ms < row.talk_ms <= limit_ms + LATE_CUT_MS else row.talk_ms
        if row.cost != max(1, -(-billed_ms // 1000)):  # a connected call costs a second at least
            faults.append(f"cost {row.cost} is not the price of {billed_ms} ms")
        exact_ms = EXACT_MS if self.scene.asterisk.can_step else EXACT_REAL_MS
        if not low - exact_ms <= billed_ms <= high + exact_ms:
            faults.append(f"charged for {billed_ms} ms, talked {record.talk_ms} ms; right is {low} to {high} ({why})")
        if record.talk_ms > limit_ms + exact_ms and not self._stepped(record) and not self._is_disturbed(record):
            faults.append(f"talked {record.talk_ms} ms, with {limit_ms} ms granted")
        return faults

    def _bounds(self, record: CallRecord, granted_ms: int) -> tuple[float, float, str]:
        """Return the least and the most milliseconds that are right, and by which evidence."""
        assert record.answered is not None
        assert record.ended is not None
        assert record.gone is not None
        talk_ms = record.talk_ms
        if granted_ms < talk_ms <= granted_ms + LATE_CUT_MS:
            talk_ms = granted_ms
        if self._stepped(record):
            if (record.settled or record.noted) and record.how != "crash" and not self._is_disturbed(record):
                return talk_ms - STEP_MS, talk_ms + STEP_MS, "a step of the clock"
            return 0, float("inf"), "a step of the clock beside other faults"
        if record.how == "transfer" and (record.plan["dialplan"] == TWO_LINES or self._is_disturbed(record)):
            return self._bounds_of_transfer(record)
        if (record.settled or record.noted) and record.how != "crash":
            return talk_ms, talk_ms, "exact"
        blind = [each for each in self._clusters() if each[0] - 1 <= record.ended <= each[1] + 1]
        if not blind:
            blind = [(record.ended, record.ended)]
        began, ended = min(each[0] for each in blind), max(record.ended, *(each[1] for each in blind))
        low = (began - SEEN_SECONDS - record.answered) * 1000
        high = min(granted_ms, talk_ms + max(0.0, ended - record.ended) * 1000)
        return max(0.0, min(low, talk_ms)), high, "no witness of the end" if record.how != "crash" else "crash"

    def _bounds_of_transfer(self, record: CallRecord) -> tuple[float, float, str]:
        """Return the bounds where an event of AMI alone tells the talk's end, as the caller's channel goes on.

        In a fault the answer may be unheard too, so that ringing counts; then the call lived until all is back.
        """
        assert record.answered is not None
        assert record.gone is not None
        began, until, gone = record.answered, record.gone, record.gone
        if self._is_disturbed(record):
            around = (each[1] for each in self._clusters() if each[0] - 1 <= gone <= each[1] + 1)
            began, until = record.began, max(gone, *around, gone)
        return 0, (until - began) * 1000, "transferred without a note"

    def _stepped(self, record: CallRecord) -> bool:
        return any(record.began - 1 <= at <= (record.gone or at) + 1 for at, _ in self.scene.steps)

    def _is_disturbed(self, record: CallRecord) -> bool:
        """Return whether something besides clocks was broken around this call."""
        until = (record.gone or record.began) + 2
        others = (each for each in self.scene.faults if not each.name.endswith(("clock", "clocks")))
        return any(each.began < until and (each.ended or until) + BACK_SECONDS > record.began for each in others)

    def _clusters(self) -> list[tuple[float, float]]:
        """Return the times in which something was broken or came back, joined where they touch."""
        joined: list[tuple[float, float]] = []
        for fault in sorted(self.scene.faults, key=lambda each: each.began):
            ended = (fault.ended or fault.began) + BACK_SECONDS
            if joined and fault.began <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], ended))
            else:
                joined.append((fault.began, ended))
        return joined

    # -- what a person reads -----------------------------------------------------------------------------------------

    def history(self, record: CallRecord) -> str:
        """Tell all that is known of one call, in the order of time."""
        began = record.began
        until = record.gone or began
        lines = [
            (record.began, f"{record.plan['caller']} calls {record.plan['callee']} by {record.plan['dialplan']}"),
            *((at, f"the limit is {seconds} s ({which})") for at, which, seconds in record.limits),
            *(
                (at, f"AGI {script} of biller {biller}, to {end - began:+.3f}: {how}")
                for at, end, script, biller, how in record.sessions
            ),
            *((each.began, _words_of(each, began)) for each in self.scene.faults if _touches(each, began, until)),
        ]
        if record.answered is not None:
            lines.append((record.answered, "the callee answers"))
            lines.append((record.ended or until, f"the talk ends after {record.talk_ms} ms: {record.how}"))
        said = f"status {record.status!r}, result {record.result!r}, settled {record.settled}, noted {record.noted}"
        lines.append((until, f"the channel is gone; {said}"))
        told = [f"  call {record.uniqueid}"]
        told += [f"  {at - began:+9.3f} s  {text}" for at, text in sorted(lines)]
        for row in self.ledger.calls.get(record.uniqueid, []):
            facts = f"granted {row.granted_seconds}, talk {row.talk_ms} ms, cost {row.cost}, by {row.witness}"
            times = f"started {_time(row.started_at)}, answered {_time(row.answered_at)}, ended {_time(row.ended_at)}"
            told.append(f"  ledger, leg {row.leg}: {row.state}, {facts}; {times}; {row.outcome!r} {row.note!r}")
            told += [
                f"    {_time(each.at)} {each.witness}: {each.talk_ms} ms {each.outcome} {each.note}"
                for each in self.ledger.reports.get(row.reference, [])
            ]
        return "\n".join(told)


def _words_of(fault: FaultEntry, began: float) -> str:
    ended = "on" if fault.ended is None else f"{fault.ended - began:+.3f}"
    return f"FAULT {fault.name.replace('_', ' ')}, to {ended}"


def _touches(fault: FaultEntry, began: float, until: float) -> bool:
    return fault.began <= until + 10 and (fault.ended or until) >= began - 2


def _time(at: Any) -> str:
    if at is None:
        return "-"
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3] if isinstance(at, datetime) else str(at)
