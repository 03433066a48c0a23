"""What operators watch: every number is what happened, and a scrape answers whatever else does not."""

from datetime import UTC, datetime, timedelta
from threading import Event

import pytest
import pytest_twisted
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.config.tables import Metrics as MetricsSettings
from celcombiller.config.tables import Prompts
from celcombiller.core.audit.difference import Difference
from celcombiller.core.audit.report import AuditReport
from celcombiller.core.charging.requests import CallAnswered, Credit
from celcombiller.core.charging.voice import HOLD_MARGIN
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.reports.open_items import (
    calls_statement,
    count_open_items,
    granted_statement,
    holds_statement,
    orders_statement,
)
from celcombiller.core.schema import tables
from celcombiller.core.voice import call_orders
from celcombiller.core.voice.call_orders import OrderKind
from celcombiller.database.batch_writer import DEFERRED_BATCH_SECONDS
from celcombiller.database.engine import open_engine
from celcombiller.jobs.ledger_audit import FIRST_AUDIT_SECONDS, LedgerAuditService
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.metrics.calls import RESULTS
from celcombiller.runtime.process.reactor_delay import DELAY_SECONDS, ReactorDelay
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate
from tests.support.http.api_service import PEOPLE, Biller, biller_fixture, header

biller = biller_fixture(metrics=MetricsSettings())
strict_biller = biller_fixture()
proxied_biller = biller_fixture(metrics=MetricsSettings(), trusted_proxies=("127.0.0.1",))


def samples(text):
    """Give every sample: ``name{label="value"}`` (labels in their order) to its number."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def told(metrics, progress=None, gone=None):
    return samples(metrics.exposition(progress, gone or {}, dict.fromkeys(gone or {}, True)).decode())


async def scraped(biller, **more):
    answer = await biller.client().get("/metrics", **more)
    assert answer.code == 200, answer.bytes
    assert header(answer, "content-type") == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.bytes.decode())


async def played(biller, caller="1002", called="1003", **facts):
    channel = Channel(caller, called, **facts)
    return await play(reactor, "127.0.0.1", int(biller.config.agi.listen.split(":")[1]), channel)


# -- after calls, over the wire --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_scrape_counts_calls_and_charges(biller):
    await biller.service.store.charge(Credit("ana", Kind.VOICE, 60, "web", "r"))
    before = await scraped(biller)
    assert before['celcombiller_authorizations_total{result="GRANTED"}'] == 0
    await played(biller, talk_ms=2300)
    await played(biller, outcome="BUSY")
    await played(biller, caller="1003", called="1002")  # who has no credit
    await played(biller, called="12345")  # to whom there is no way
    for _ in range(200):  # nobody waits for what a reducer confirms
        after = await scraped(biller)
        rise = {name: after[name] - before.get(name, 0) for name in after}
        if rise['celcombiller_confirmations_total{witness="reducer"}'] == 2:
            break
        await deferLater(reactor, DEFERRED_BATCH_SECONDS)
    decided = {each: rise[f'celcombiller_authorizations_total{{result="{each}"}}'] for each in RESULTS}
    assert decided == dict.fromkeys(RESULTS, 0) | {"GRANTED": 2, "NO_CREDIT": 1, "BAD_NUMBER": 1}
    assert rise["celcombiller_authorization_duration_seconds_count"] == 4
    assert rise['celcombiller_authorization_duration_seconds_bucket{le="+Inf"}'] == 4
    assert rise['celcombiller_calls_ended_total{state="settled",witness="agi"}'] == 1
    assert rise['celcombiller_calls_ended_total{state="released",witness="agi"}'] == 1
    assert rise['celcombiller_confirmations_total{witness="reducer"}'] == 2
    assert rise['celcombiller_discrepancies_total{witness="reducer"}'] == 0
    assert rise["celcombiller_talk_seconds_total"] == pytest.approx(2.3)
    assert rise["celcombiller_charged_credits_total"] == 3
    assert rise["celcombiller_batch_requests_sum"] == 4 + 2 + 4  # decisions, the callers' ends, the reducers'
    assert 0 < rise["celcombiller_batch_requests_count"] <= rise["celcombiller_commit_duration_seconds_count"]
    assert after["celcombiller_agi_sessions_max"] == 15000
    assert after["celcombiller_database_up"] == 1
    assert after["celcombiller_open_holds"] == 0
    assert after["process_resident_memory_bytes"] > 1e6


@pytest_twisted.ensureDeferred
async def test_an_open_call_shows_session_and_hold(biller):
    await biller.service.store.charge(Credit("ana", Kind.VOICE, 60, "web", "r"))
    seen = []

    class Watched(Channel):
        """Asks for the metrics while its Dial runs; the biller has read that it dials before it answers."""

        def answer(self, line):
            if line.startswith("EXEC DIAL"):
                seen.append(in_progress_of(biller))
                seen.append(biller.service.metrics.calls.agi_sessions.collect()[0].samples[0].value)
            return super().answer(line)

    channel = Watched("1002", "1003", talk_ms=1000)
    await play(reactor, "127.0.0.1", int(biller.config.agi.listen.split(":")[1]), channel)
    progress, sessions = seen
    assert (progress.holds, progress.held, sum(progress.calls.values()), progress.overdue) == (1, 60, 1, 0)
    assert sessions == 1
    after = await scraped(biller)
    assert (after["celcombiller_open_holds"], after["celcombiller_held_credits"]) == (0, 0)


def in_progress_of(biller):
    with biller.engine.execution_options(reading=True).begin() as tx:
        return count_open_items(tx, datetime.now(UTC))


@pytest_twisted.ensureDeferred
async def test_rest_requests_count_by_route(biller):
    client = biller.client()
    await client.log_in("admin")
    for username in ("ana", "bia", "nobody"):
        await client.get(f"/api/v1/subscribers/{username}")
    await client.get("/nothing/here")
    await client.post("/healthz", {})
    found = await scraped(biller)
    requests = {name: value for name, value in found.items() if name.startswith("celcombiller_rest_requests_total")}
    assert requests == {
        'celcombiller_rest_requests_total{route="POST /login",status="200"}': 1,
        'celcombiller_rest_requests_total{route="GET /api/v1/subscribers/{username}",status="200"}': 2,
        'celcombiller_rest_requests_total{route="GET /api/v1/subscribers/{username}",status="404"}': 1,
        'celcombiller_rest_requests_total{route="none",status="404"}': 1,
        'celcombiller_rest_requests_total{route="none",status="405"}': 1,
    }


# -- the database away -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_scrape_without_database_says_so(tmp_path):
    biller = Biller(tmp_path, {}, "", MetricsSettings())
    assert (await scraped(biller))["celcombiller_open_holds"] == 0
    biller.engine.dispose()
    away = tmp_path / "away.sqlite"
    (tmp_path / "rest.sqlite").rename(away)
    (tmp_path / "rest.sqlite").mkdir()
    reading = biller.service.threads[0]
    reading._reading.dispose()
    found = await scraped(biller)
    assert found["celcombiller_database_up"] == 0
    assert found['celcombiller_authorizations_total{result="GRANTED"}'] == 0
    assert "process_resident_memory_bytes" in found
    assert not {"celcombiller_open_holds", "celcombiller_overdue_calls"} & found.keys()
    assert (await biller.client().get("/healthz")).code == 200
    (tmp_path / "rest.sqlite").rmdir()
    away.rename(tmp_path / "rest.sqlite")
    assert (await scraped(biller))["celcombiller_database_up"] == 1
    await biller.stop()


@pytest_twisted.ensureDeferred
async def test_a_scrape_gives_up_on_a_hung_database(biller, monkeypatch):
    hanging = Event()
    monkeypatch.setattr("celcombiller.rest.operations.metrics.READ_SECONDS", 0.05)
    monkeypatch.setattr("celcombiller.rest.operations.metrics.count_open_items", lambda tx, now: hanging.wait(30))
    found = await scraped(biller)
    hanging.set()
    assert found["celcombiller_database_up"] == 0


# -- who may read ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_without_metrics_allow_only_staff_read(strict_biller):
    assert (await strict_biller.client().get("/metrics")).code == 401
    for username in PEOPLE:
        answer = await (await strict_biller.logged_in(username)).get("/metrics")
        assert answer.code == (403 if username in ("ana", "bia") else 200)
    admin = await strict_biller.logged_in("admin")
    for scope, code in (("read", 200), ("agi", 403)):
        made = await admin.post("/api/v1/tokens", {"name": "prometheus", "scopes": [scope], "username": "clara"})
        client = strict_biller.client()
        client.bearer = made.body["secret"]
        assert (await client.get("/metrics")).code == code


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Host": "rebound.example"}, {"X-Forwarded-For": "127.0.0.1"}],
)
@pytest_twisted.ensureDeferred
async def test_browsers_and_proxies_are_not_local_programs(biller, headers):
    assert (await biller.client().get("/metrics", headers=headers)).code == 401


@pytest_twisted.ensureDeferred
async def test_behind_a_trusted_proxy_the_clients_address_counts(proxied_biller):
    answer = await proxied_biller.client().get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    assert answer.code == 401


# -- what is in progress ---------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "ledger.sqlite")
    yield made
    made.dispose()


def progress_at(engine, now):
    with engine.begin() as tx:
        return count_open_items(tx, now)


def test_an_unsettled_call_is_overdue_after_its_limit(engine):
    ask(engine, credit(100))
    ask(engine, credit(50, "other", "u1002"))
    ask(engine, initiate("1.0"))
    ask(engine, initiate("2.0", caller="1002", called="1001"), now=NOW + timedelta(seconds=10))
    limit = NOW + timedelta(seconds=40 + 100)
    found = progress_at(engine, limit)
    assert (found.holds, found.held, found.calls, found.oldest_seconds) == (2, 150, {"pbx1": 2}, 140)
    assert (found.overdue, found.overdue_seconds) == (1, 40)  # the second: it had 50 seconds
    found = progress_at(engine, limit + timedelta(seconds=1))
    assert (found.overdue, found.overdue_seconds) == (2, 41)
    ask(engine, ended("1.0"), ended("2.0"))
    found = progress_at(engine, limit + HOLD_MARGIN)
    assert (found.holds, found.held, found.calls, found.oldest_seconds) == (0, 0, {}, 0)
    assert (found.overdue, found.overdue_seconds) == (0, 0)


def test_granted_seconds_and_waiting_orders_are_counted(engine):
    ask(engine, credit(100), credit(50, "other", "u1002"))
    ask(engine, initiate("1.0"), initiate("2.0", caller="1002", called="1001"))
    assert progress_at(engine, NOW).granted_seconds == 0
    ask(engine, CallAnswered("pbx1", "1.0", NOW), CallAnswered("pbx1", "2.0", NOW + timedelta(seconds=5)))
    assert progress_at(engine, NOW + timedelta(seconds=10)).granted_seconds == 90 + 45
    assert progress_at(engine, NOW + timedelta(seconds=60)).granted_seconds == 40
    with engine.begin() as tx:
        order = call_orders.add(
            tx, reference="call:pbx1:1.0:0", kind=OrderKind.HANGUP, reason="x", actor="ana", now=NOW
        )
    found = progress_at(engine, NOW + timedelta(seconds=7))
    assert (found.waiting_orders, found.oldest_order_seconds) == (1, 7)
    with engine.begin() as tx:
        call_orders.finish(tx, order.id, "done", NOW)
    found = progress_at(engine, NOW + timedelta(seconds=7))
    assert (found.waiting_orders, found.oldest_order_seconds) == (0, 0)


def test_open_items_are_found_by_partial_indexes(engine):
    with engine.begin() as tx:
        for statement, index in (
            (holds_statement(NOW), "ix_hold_open"),
            (calls_statement(), "ix_call_open"),
            (granted_statement(NOW), "ix_call_open"),
            (orders_statement(), "ix_call_order_waiting"),
        ):
            words = statement.compile(engine, compile_kwargs={"render_postcompile": True})
            rows = tx.exec_driver_sql(
                f"explain query plan {words}", tuple(map(words.params.get, words.positiontup or ()))
            )
            plan = [row[3] for row in rows]
            assert any(index in step for step in plan), plan


# -- one by one ------------------------------------------------------------------------------------------------------


def test_differing_witnesses_count_as_discrepancies(engine):
    metrics = Metrics()
    ask(engine, credit(100))
    ask(engine, initiate())
    for end in (ended(), ended(witness=Witness.REDUCER), ended(witness=Witness.AMI, talk_ms=9000)):
        metrics.calls.count_end(end.witness, ask(engine, end)[0])
    found = told(metrics)
    assert found['celcombiller_calls_ended_total{state="settled",witness="agi"}'] == 1
    assert found['celcombiller_confirmations_total{witness="reducer"}'] == 1
    assert found['celcombiller_confirmations_total{witness="ami"}'] == 1
    assert found['celcombiller_discrepancies_total{witness="ami"}'] == 1
    assert found['celcombiller_discrepancies_total{witness="reducer"}'] == 0


def test_every_label_exists_from_the_start():
    found = told(Metrics())
    assert {f'celcombiller_authorizations_total{{result="{each}"}}' for each in RESULTS} <= found.keys()
    for state in CallState:
        for witness in Witness:
            name = f'celcombiller_calls_ended_total{{state="{state}",witness="{witness}"}}'
            assert (name in found) == (state is not CallState.OPEN)


def test_every_refusal_of_a_call_is_a_result():
    assert {each.upper() for each in Prompts.__struct_fields__} < set(RESULTS)


def test_destinations_beyond_the_bound_share_one_label(monkeypatch):
    monkeypatch.setattr("celcombiller.runtime.metrics.calls.DESTINATIONS_MAX", 2)
    metrics = Metrics()
    for each in ("Brazil", "Peru", "Chile", "Brazil"):
        metrics.calls.count_way(each, "", answered=True, talk_seconds=1.5)
    found = told(metrics)
    counted = {name: value for name, value in found.items() if name.startswith("celcombiller_destination_calls_total")}
    label = 'celcombiller_destination_calls_total{{answered="yes",destination="{}"}}'
    assert counted == {label.format("Brazil"): 2, label.format("Peru"): 1, label.format("other"): 1}


def test_the_ami_gap_grows_only_while_down():
    now = [0.0]
    metrics = Metrics(lambda: now[0])
    assert 'celcombiller_ami_up{server="pbx1"}' not in told(metrics)
    gaps = []
    for happens in (
        metrics.links.record_down,
        metrics.links.record_up,
        metrics.links.record_down,
        metrics.links.record_down,
        metrics.links.record_up,
    ):
        happens("pbx1")
        now[0] += 10
        found = told(metrics)
        gaps.append(
            (found['celcombiller_ami_up{server="pbx1"}'], found['celcombiller_ami_gap_seconds_total{server="pbx1"}'])
        )
    assert gaps == [(0, 10), (1, 10), (0, 20), (0, 30), (1, 30)]


def test_two_billers_in_one_process_count_apart():
    one, other = Metrics(), Metrics()
    one.calls.count_authorization("GRANTED")
    assert told(one)['celcombiller_authorizations_total{result="GRANTED"}'] == 1
    assert told(other)['celcombiller_authorizations_total{result="GRANTED"}'] == 0


def test_schedule_lag_comes_from_its_service():
    metrics = Metrics()
    metrics.schedules.record_lag(86400.0, NOW)
    found = told(metrics)
    assert found["celcombiller_schedule_lag_seconds"] == 86400
    assert found["celcombiller_schedules_looked_at_timestamp_seconds"] == NOW.timestamp()


def test_a_reactor_that_is_late_is_seen():
    clock, metrics = Clock(), Metrics()
    service = ReactorDelay(clock, metrics)
    service.startService()
    clock.pump([DELAY_SECONDS, DELAY_SECONDS, DELAY_SECONDS + 3])
    service.stopService()
    found = told(metrics)
    assert found["celcombiller_reactor_delay_seconds_count"] == 3
    assert found["celcombiller_reactor_delay_seconds_sum"] == 3
    assert found['celcombiller_reactor_delay_seconds_bucket{le="0.0005"}'] == 2
    assert not clock.getDelayedCalls()


# -- the audit -------------------------------------------------------------------------------------------------------


class Here:
    """A reactor whose threads have done their work when they are waited for."""

    def __init__(self):
        self.clock, self.waiting = Clock(), []
        self.callLater = self.clock.callLater

    def callFromThread(self, work, *arguments):
        self.waiting.append((work, arguments))

    def audit(self, seconds, monkeypatch):
        class Thread:
            def __init__(self, target, **_):
                self.start = target

        monkeypatch.setattr("celcombiller.jobs.ledger_audit.cpu_affinity.UnpinnedThread", Thread)
        self.clock.advance(seconds)
        waiting, self.waiting = self.waiting, []
        for work, arguments in waiting:
            work(*arguments)
        return len(waiting)


def test_the_ledger_is_audited_at_intervals(engine, monkeypatch):
    house, metrics = Here(), Metrics()
    ask(engine, credit(100))
    service = LedgerAuditService(house, engine, 2, metrics)
    service.startService()
    assert house.audit(FIRST_AUDIT_SECONDS - 1, monkeypatch) == 0
    assert told(metrics)["celcombiller_audit_timestamp_seconds"] == 0
    assert house.audit(1, monkeypatch) == 1
    found = told(metrics)
    assert found["celcombiller_audit_timestamp_seconds"] > NOW.timestamp()
    assert found["celcombiller_audit_differences"] == 0
    with engine.begin() as tx:
        tx.execute(sa.update(tables.account).where(tables.account.c.posted == 100).values(posted=90))
    assert house.audit(2 * 3600 - 1, monkeypatch) == 0
    assert house.audit(1, monkeypatch) == 1
    assert told(metrics)["celcombiller_audit_differences"] == 1
    service.stopService()
    assert not house.clock.getDelayedCalls()


def test_an_impossible_audit_keeps_the_last_result(engine, tmp_path, monkeypatch):
    house, metrics = Here(), Metrics()
    metrics.audit.record(AuditReport(0, 0, 0, 0, 0, [Difference("law", "subject", 1, 2)]), seconds=1.5, at=NOW)
    nowhere = open_engine(f"sqlite:///{tmp_path}/no/where.sqlite", lock_seconds=1)
    service = LedgerAuditService(house, nowhere, 2, metrics)
    service.startService()
    assert house.audit(FIRST_AUDIT_SECONDS, monkeypatch) == 1
    assert told(metrics)["celcombiller_audit_differences"] == 1
    assert told(metrics)["celcombiller_audit_timestamp_seconds"] == NOW.timestamp()
    assert house.audit(2 * 3600, monkeypatch) == 1
    service.stopService()


def test_workers_keep_series_apart_by_number():
    one, other = told(Metrics(worker=1)), told(Metrics(worker=2))
    assert len(one) == len(other) > 50
    assert all('worker="1"' in name for name in one)
    assert all('worker="2"' in name for name in other)
