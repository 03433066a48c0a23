"""The records of Asterisk that the biller reads as they are written."""

from datetime import UTC, timedelta

import pytest
import pytest_twisted
from twisted.internet.defer import succeed

from celcombiller.asterisk.cdr_evidence import CdrEvidence
from celcombiller.cdr.csv_file import CsvFile
from celcombiller.core.charging.requests import CallAnswered
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.reconciliation.difference_records import list_differences
from celcombiller.core.reconciliation.settlement import PastCatalogue, ReconciliationTerms
from celcombiller.jobs.cdr_reconciliation import CdrReconciliation
from celcombiller.jobs.expiry import close_overdue
from celcombiller.runtime.metrics import Metrics
from tests.cdr.test_sources import BEGAN, EPOCH, line
from tests.core.ledger.test_book import TERMS, ask, credit, initiate, proved, voice
from tests.core.reconciliation.test_settlement import calls, talked


class Lab:
    """A ledger, a file that Asterisk writes, and nodes that read it; the time is the test's."""

    def __init__(self, engine, path):
        self.engine, self.path = engine, path
        self.source = CsvFile(path, UTC)
        self.now = BEGAN + timedelta(hours=1)
        self.metrics = Metrics()
        path.write_bytes(line(0))

    def transact(self, work):
        with self.engine.begin() as tx:
            return succeed(work(tx))

    def charge(self, request):
        return succeed(ask(self.engine, request, now=self.now)[0])

    def node(self, *, settle=False):
        return CdrReconciliation(
            self.source,
            ReconciliationTerms("pbx1", self.source.label),
            PastCatalogue(TERMS),
            settle=settle,
            transact=self.transact,
            read=self.transact,
            in_thread=lambda work: succeed(work()),
            now=lambda: self.now,
            metrics=self.metrics,
        )

    def write(self, *lines):
        with self.path.open("ab") as file:
            file.write(b"".join(lines))

    def found(self):
        with self.engine.begin() as tx:
            return [(each.kind, each.state) for each in reversed(list_differences(tx, limit=1000))]

    def metric(self, name):
        text = self.metrics.exposition(None, {}).decode()
        return [float(each.split()[-1]) for each in text.splitlines() if each.startswith(f"{name} ")]


@pytest.fixture
def lab(engine, tmp_path):
    ask(engine, credit(1000))
    yield Lab(engine, tmp_path / "Master.csv")
    proved(engine)


@pytest_twisted.ensureDeferred
async def test_only_new_records_are_reported(lab):
    node = lab.node()
    await node()
    assert lab.found() == []
    lab.write(line(1), line(2)[:-9])
    for _ in range(2):
        await node()
    assert lab.found() == [("missing", "found")]
    assert voice(lab.engine).posted == 1000
    lab.write(line(2)[-9:], b'"broken\n', *map(line, range(3, 300)))
    lab.now += timedelta(days=1)
    await node()
    assert lab.found() == [("missing", "found")] * 299
    assert lab.metric('celcombiller_cdr_differences_total{kind="missing"}') == [299]
    assert lab.metric("celcombiller_cdr_unreadable_total") == [1]


@pytest_twisted.ensureDeferred
async def test_missing_calls_are_settled_where_wanted(lab):
    node = lab.node(settle=True)
    await node()
    ask(lab.engine, *talked(f"{EPOCH + 60}.1"))
    lab.write(line(2), line(3))
    await node()
    await lab.node(settle=True)()
    assert lab.found() == [("missing", "settled")] * 2
    assert voice(lab.engine).posted == 1000 - 3 * 60
    assert lab.metric('celcombiller_calls_ended_total{state="settled",witness="cdr"}') == [2]
    assert lab.metric("celcombiller_cdr_settled_total") == [2]


@pytest_twisted.ensureDeferred
async def test_a_young_record_is_left_to_witnesses(lab):
    node = lab.node()
    await node()
    lab.now = BEGAN + timedelta(minutes=1, seconds=70)
    lab.write(line(1))
    await node()
    assert lab.found() == []
    lab.now += timedelta(minutes=1)
    await node()
    assert lab.found() == [("missing", "found")]


@pytest_twisted.ensureDeferred
async def test_one_node_reads_at_a_time(lab):
    first, second = lab.node(), lab.node()
    await first()
    lab.write(line(1))
    waiting = []

    def stop_there(work):
        result = work()
        if not waiting:
            waiting.append(second())
        return succeed(result)

    first._in_thread = stop_there
    await first()
    await waiting[0]
    assert lab.found() == [("missing", "found")]
    lab.write(line(2))
    await second()
    assert lab.found() == [("missing", "found")] * 2


@pytest_twisted.ensureDeferred
async def test_a_source_that_is_away_waits(lab):
    node = lab.node()
    await node()
    lab.write(line(1))
    moved = lab.path.rename(lab.path.with_name("away"))
    for _ in range(2):
        await node()
    moved.rename(lab.path)
    await node()
    assert lab.found() == [("missing", "found")]


@pytest_twisted.ensureDeferred
async def test_an_overdue_call_ends_by_its_record(lab):
    uniqueid = f"{EPOCH + 60}.1"
    answered_at = BEGAN + timedelta(seconds=66)
    ask(lab.engine, initiate(uniqueid), CallAnswered("pbx1", uniqueid, answered_at), now=BEGAN + timedelta(minutes=1))
    lab.write(line(1), line(2))
    evidence = CdrEvidence("pbx1", lab.source, lambda work: succeed(work()), lambda: lab.now)
    await close_overdue(lab, {}, lab.now, lab.metrics, cdrs=evidence)
    (call,) = calls(lab.engine)
    assert (call.state, call.witness, call.talk_ms) == (CallState.SETTLED, Witness.CDR, 60_000)
    assert call.note == f"by the CDR of {lab.path}"[: 200 + len("by the CDR of ")]
