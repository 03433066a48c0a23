"""What is due is credited exactly once: after downtime, clock steps, crashes, changes and faults of single members."""

import os
import shutil
from datetime import UTC, date, datetime, time, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import CreditOutcome, RunState
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import forecast, runs, schedule_records
from celcombiller.core.schedules import memberships as schedules_memberships
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.jobs.schedule_pass import PassFailure
from tests.core.ledger.test_book import database
from tests.support.schedules import DAY, NOW, RULES, TODAY, credit_rows, go, plan, pots, proved, states, subscriber

U = ("u1001", "u1002", "u1003")


@pytest.fixture
def engine(engine):
    yield engine
    proved(engine)


def with_members(engine, *usernames, count=3, **facts):
    with engine.begin() as tx:
        made = plan(tx, **facts)
        for username in usernames or U:
            schedules_memberships.join(tx, made, subscriber_records.find(tx, username).id, count=count, now=NOW)
    return made


def join(engine, schedule, username, now=NOW, **facts):
    with engine.begin() as tx:
        return schedules_memberships.join(tx, schedule, subscriber_records.find(tx, username).id, now=now, **facts)


def counts(engine, schedule):
    with engine.begin() as tx:
        return [each.count for each in schedules_memberships.memberships(tx, schedule_id=schedule.id, limit=99)]


# -- one date --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "given"), [(1, (10, 0, 0)), (2, (0, 10, 0)), (3, (10, 10, 0)), (4, (0, 0, 10))])
def test_each_member_gets_each_kind_once(engine, kind, given):
    made = with_members(engine, kind=kind)
    for _ in range(3):
        go(engine)
    assert [pots(engine, username) for username in U] == [given] * 3
    assert credit_rows(engine) == [(made.id, username, TODAY, "credited") for username in U]
    assert counts(engine, made) == [2, 2, 2]


def test_the_transfers_say_where_they_come_from(engine):
    made = with_members(engine, "u1001", kind=3)
    go(engine)
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.transfer).order_by(tables.transfer.c.id)).all()
    member = 2 if made.id is None else rows[0].reference.split(":")[2]
    assert [row.reference for row in rows] == [
        f"schedule:{made.id}:{member}:2026-11-05:{kind}" for kind in ("voice", "data")
    ]
    assert {(row.origin, row.amount, row.at, row.credit_posted) for row in rows} == {("schedule", 10, NOW, 10)}


def test_nothing_is_due_before_the_run_time(engine):
    with_members(engine)
    rules = ScheduleRules(run_at=time(12, 30))
    go(engine, NOW + timedelta(minutes=29), rules)
    assert credit_rows(engine) == []
    go(engine, NOW + timedelta(minutes=30), rules)
    assert len(credit_rows(engine)) == 3


def test_the_run_time_is_in_the_schedules_zone(engine):
    midnight = datetime(2026, 11, 6, 3, 29, tzinfo=UTC)  # in São Paulo 0:29 of the 6th
    with_members(engine, time_zone="America/Sao_Paulo", first_on=date(2026, 11, 6))
    go(engine, midnight)
    assert credit_rows(engine) == []
    go(engine, midnight + timedelta(minutes=1))
    assert {row[2] for row in credit_rows(engine)} == {date(2026, 11, 6)}


def test_a_membership_ends_with_its_last_run(engine):
    made = with_members(engine, "u1001", count=2)
    for days in range(4):
        go(engine, NOW + days * DAY)
    assert [row[2] for row in credit_rows(engine)] == [TODAY, TODAY + DAY]
    assert counts(engine, made) == []
    with engine.begin() as tx:
        (ended,) = tx.execute(sa.select(tables.membership)).all()
    assert (ended.count, ended.ended_at) == (0, NOW + DAY)


def test_a_membership_of_count_zero_ends_unpaid(engine):
    made = with_members(engine, "u1001")
    with engine.begin() as tx:
        (membership,) = schedules_memberships.memberships(tx, schedule_id=made.id, limit=9)
        schedules_memberships.set_count(tx, membership, 0)
    go(engine)
    assert (credit_rows(engine), counts(engine, made)) == ([], [])


def test_a_zero_value_uses_up_nothing(engine):
    made = with_members(engine, value=0)
    go(engine)
    assert (credit_rows(engine), counts(engine, made)) == ([], [3, 3, 3])
    assert states(engine) == {TODAY: "skipped"}


@pytest.mark.parametrize(("use_up", "left"), [(False, 3), (True, 2)])
def test_a_disabled_member_is_passed_over(engine, use_up, left):
    made = with_members(engine)
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1002", enabled=False, now=NOW)
    for _ in range(2):
        go(engine, rules=ScheduleRules(disabled_use_up=use_up))
    assert [row[3] for row in credit_rows(engine)] == ["credited", "passed", "credited"]
    assert (counts(engine, made), pots(engine, "u1002")) == ([2, left, 2], (0, 0, 0))
    with engine.begin() as tx:
        (run,) = runs.history(tx, schedule_id=made.id, limit=9)
        (passed,) = runs.uncredited(tx, run, limit=9)
    assert (run.credited, run.passed, run.failed) == (2, 1, 0)
    assert (passed.username, passed.outcome, passed.note) == ("u1002", CreditOutcome.PASSED, "disabled")


def test_two_schedules_of_one_subscriber_both_credit_him(engine):
    first, second = with_members(engine, "u1001"), with_members(engine, "u1001", value=5)
    go(engine)
    assert [row[0] for row in credit_rows(engine)] == [first.id, second.id]
    assert pots(engine, "u1001") == (15, 0, 0)


# -- who joins and leaves --------------------------------------------------------------------------------------------


def test_joining_on_the_date_is_in_time(engine):
    made = with_members(engine, "u1001")
    go(engine)
    join(engine, made, "u1002", NOW + timedelta(hours=3))
    go(engine, NOW + timedelta(hours=4))
    assert [row[1:3] for row in credit_rows(engine)] == [("u1001", TODAY), ("u1002", TODAY)]
    assert states(engine) == {TODAY: "open"}
    join(engine, made, "u1003", NOW + DAY)
    go(engine, NOW + DAY)
    assert ("u1003", TODAY) not in [row[1:3] for row in credit_rows(engine)]
    assert states(engine) == {TODAY: "done", TODAY + DAY: "open"}


def test_joining_during_an_outage_gets_due_credit(engine):
    made = with_members(engine, "u1001", count=9)
    join(engine, made, "u1002", NOW + 2 * DAY, count=9)
    go(engine, NOW + 3 * DAY)
    mine = [row[2] for row in credit_rows(engine) if row[1] == "u1002"]
    assert mine == [TODAY + 2 * DAY, TODAY + 3 * DAY]


def test_leaving_and_rejoining_credits_nothing_twice(engine):
    made = with_members(engine, "u1001")
    go(engine)
    with engine.begin() as tx:
        (membership,) = schedules_memberships.memberships(tx, schedule_id=made.id, limit=9)
        schedules_memberships.leave(tx, membership, NOW)
    join(engine, made, "u1001", NOW)
    go(engine)
    assert (pots(engine, "u1001"), counts(engine, made)) == ((10, 0, 0), [3])
    go(engine, NOW + DAY)
    assert pots(engine, "u1001") == (20, 0, 0)


def test_a_deleted_subscriber_gets_nothing(engine):
    made = with_members(engine)
    with engine.begin() as tx:
        table = tables.subscriber
        schedules_memberships.leave_all(tx, subscriber_records.find(tx, "u1001").id, NOW)
        tx.execute(sa.update(table).where(table.c.username == "u1001").values(deleted_at=NOW))
        tx.execute(sa.update(table).where(table.c.username == "u1002").values(deleted_at=NOW))  # left nothing
    go(engine)
    assert credit_rows(engine) == [(made.id, "u1003", TODAY, "credited")]


# -- downtime and clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "given"), [("all", [1, 2, 3, 4]), ("last", [4]), ("none", [4])], ids=["all", "last", "none"]
)
def test_missed_dates_follow_the_schedules_rule(engine, catch_up, given):
    with_members(engine, "u1001", count=9, catch_up=catch_up, first_on=TODAY + DAY)
    go(engine, NOW + 4 * DAY)
    assert [row[2] for row in credit_rows(engine)] == [TODAY + n * DAY for n in given]
    assert sorted(states(engine)) == [TODAY + n * DAY for n in (1, 2, 3, 4)]


def test_a_missed_last_date_follows_the_rule(engine):
    facts = {"recurrence": "weekly", "day": 6, "first_on": TODAY}
    last = with_members(engine, "u1001", catch_up="last", **facts)
    with_members(engine, "u1001", catch_up="none", **facts)
    go(engine, NOW + 4 * DAY)  # the Saturday was two days before
    assert [row[0] for row in credit_rows(engine)] == [last.id]


def test_missed_dates_use_runs_oldest_first(engine):
    made = with_members(engine, count=2)
    go(engine, NOW + 5 * DAY)
    assert {row[2] for row in credit_rows(engine)} == {TODAY, TODAY + DAY}
    assert counts(engine, made) == []


def test_clock_steps_credit_no_date_twice(engine):
    with_members(engine, "u1001", count=99)
    for days in (0, 3, -400, 1, 9, 2, 0, -30, 9):
        go(engine, NOW + days * DAY)
    assert [row[2] for row in credit_rows(engine)] == [TODAY + n * DAY for n in range(10)]


def test_a_long_absence_needs_an_operators_word(engine):
    made = with_members(engine, "u1001", count=999)
    go(engine)
    absent = go(engine, NOW + 63 * DAY)
    assert [each.absent_days for each in absent if isinstance(each, runs.Decision)] == [63]
    assert len(credit_rows(engine)) == 1
    go(engine, NOW + DAY)  # it was the clock: all goes on as if nothing had been
    assert [row[2] for row in credit_rows(engine)] == [TODAY, TODAY + DAY]
    go(engine, NOW + 64 * DAY, ScheduleRules(catch_up_max_days=10**6))
    assert counts(engine, made) == [999 - 65]


# -- changes ---------------------------------------------------------------------------------------------------------


def test_a_new_value_counts_from_the_next_run(engine):
    made = with_members(engine, *U)
    with engine.begin() as tx:
        decision = runs.decide(tx, made.id, RULES, TODAY, NOW)
        runs.advance(tx, decision.runs[0].id, RULES, NOW, size=1)
        schedule_records.change(tx, made.id, value=99, kind=3)
    go(engine)
    assert [pots(engine, username) for username in U] == [(10, 0, 0)] * 3
    go(engine, NOW + DAY)
    assert [pots(engine, username) for username in U] == [(109, 99, 0)] * 3


def test_moving_the_day_credits_a_month_once(engine):
    made = with_members(engine, "u1001", recurrence="monthly", day=5)
    go(engine)
    with engine.begin() as tx:
        schedule_records.change(tx, made.id, day=20)
    for days in (15, 46):
        go(engine, NOW + days * DAY)
    assert [row[2] for row in credit_rows(engine)] == [TODAY, date(2026, 12, 20)]
    assert states(engine)[date(2026, 11, 20)] == "skipped"


def test_a_disabled_schedule_gives_nothing_afterwards(engine):
    made = with_members(engine, *U, count=9)
    with engine.begin() as tx:
        decision = runs.decide(tx, made.id, RULES, TODAY, NOW)
        runs.advance(tx, decision.runs[0].id, RULES, NOW, size=1)
        schedule_records.change(tx, made.id, enabled=False)
    go(engine, NOW + DAY)
    assert len(credit_rows(engine)) == 1
    with engine.begin() as tx:
        schedule_records.change(tx, made.id, enabled=True)
    go(engine, NOW + 2 * DAY)
    assert states(engine) == {TODAY: "done", TODAY + DAY: "skipped", TODAY + 2 * DAY: "open"}
    assert counts(engine, made) == [7, 7, 7]


def test_a_schedule_deleted_in_mid_run_stops(engine):
    made = with_members(engine, *U)
    with engine.begin() as tx:
        decision = runs.decide(tx, made.id, RULES, TODAY, NOW)
        runs.advance(tx, decision.runs[0].id, RULES, NOW, size=1)
        schedule_records.delete(tx, made.id, NOW)
    go(engine)
    assert len(credit_rows(engine)) == 1
    assert states(engine) == {TODAY: "done"}


# -- faults ----------------------------------------------------------------------------------------------------------


def rich(engine, username, kind, value):
    with engine.begin() as tx:
        request = Credit(username, kind, value, "web", f"id:{username}{kind}")
        (done,) = process_batch(tx, ChargingPolicy(Tariff([Rate()])), [request], NOW)
    assert done.amount == value


@pytest.mark.parametrize("kind", list(Kind))
def test_a_member_at_the_maximum_fails_alone(engine, kind):
    made = with_members(engine, kind=4 if kind is Kind.SMS else 3)
    rich(engine, "u1002", kind, AMOUNT_MAX - 9)
    told = go(engine)
    assert [row[3] for row in credit_rows(engine)] == ["credited", "failed", "credited"]
    assert sum(pots(engine, "u1002")) == AMOUNT_MAX - 9
    assert counts(engine, made) == [2, 3, 2]
    (failure,) = [failure for each in told for failure in getattr(each, "failures", ())]
    assert failure.reason == f"the {kind} balance would pass {AMOUNT_MAX}"


def test_a_balance_may_reach_the_greatest_amount(engine):
    with_members(engine, "u1001")
    rich(engine, "u1001", Kind.VOICE, AMOUNT_MAX - 10)
    go(engine)
    assert pots(engine, "u1001") == (AMOUNT_MAX, 0, 0)


def test_a_member_without_an_account_fails_alone(engine):
    with_members(engine, kind=3)
    with engine.begin() as tx:
        account = tables.account
        mine = account.c.subscriber_id == subscriber_records.find(tx, "u1002").id
        tx.execute(sa.delete(account).where(mine, account.c.kind == "data"))
    go(engine)
    assert [row[3] for row in credit_rows(engine)] == ["credited", "failed", "credited"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_failing_member_spoils_no_other(engine, size):
    """Somebody has used the id of his transfer: the database refuses the whole chunk."""
    made = with_members(engine)
    with engine.begin() as tx:
        member = subscriber_records.find(tx, "u1002").id
        taken = {"reference": f"schedule:{made.id}:{member}:{TODAY}:voice", "origin": "web", "at": NOW}
        tx.execute(sa.insert(tables.transfer), [taken | {"debit_account_id": 1, "credit_account_id": 2, "amount": 1}])
    told = go(engine, size=size)
    assert [row[3] for row in credit_rows(engine)] == ["credited", "failed", "credited"]
    (failure,) = [failure for each in told for failure in getattr(each, "failures", ())]
    assert "reference" in failure.reason
    with engine.begin() as tx:
        tx.execute(sa.delete(tables.transfer).where(tables.transfer.c.origin == "web"))


def test_a_broken_schedule_stops_no_other(engine):
    broken, made = with_members(engine, name="broken"), with_members(engine)
    with engine.begin() as tx:
        tx.execute(sa.text("update schedule set time_zone = 'Gone/Away' where name = 'broken'"))
    (fault,) = [each for each in go(engine) if isinstance(each, PassFailure)]
    assert fault.schedule_id == broken.id
    assert [row[0] for row in credit_rows(engine)] == [made.id] * 3


# -- the forecast ----------------------------------------------------------------------------------------------------


def test_the_forecast_equals_the_run(engine):
    made = with_members(engine, *U, count=2, kind=3)
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1003", enabled=False, now=NOW)
        (first, *_) = schedules_memberships.memberships(tx, schedule_id=made.id, limit=9)
        schedules_memberships.set_count(tx, first, 1)
    until = TODAY + 2 * DAY
    with engine.begin() as tx:
        dues = forecast.due(tx, made, RULES, until, NOW)
        who = forecast.due_members(tx, dues, RULES, limit=99)
        assert forecast.due_members(tx, dues, RULES, limit=2) == who[:2]
    assert credit_rows(engine) == []
    assert [(each.credited, each.passed, each.total(Kind.VOICE)) for each in dues] == [
        (2, 1, 20),
        (1, 1, 10),
        (0, 1, 0),
    ]
    go(engine, NOW + 2 * DAY)
    assert [(each.username, each.due_on, each.outcome) for each in who] == [row[1:] for row in credit_rows(engine)]


def test_a_forecast_in_mid_run_is_the_rest(engine):
    made = with_members(engine)
    with engine.begin() as tx:
        decision = runs.decide(tx, made.id, RULES, TODAY, NOW)
        runs.advance(tx, decision.runs[0].id, RULES, NOW, size=2)
        (due,) = forecast.due(tx, decision.schedule, RULES, TODAY, NOW)
    assert (due.credited, due.run.credited, due.run.state) == (1, 2, RunState.OPEN)


def test_a_forecast_of_too_many_dates_is_refused(engine):
    made = with_members(engine)
    with engine.begin() as tx, pytest.raises(InvalidValue, match="due dates until"):
        forecast.due(tx, made, RULES, date(2027, 11, 5), NOW)


# -- the proof -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update transfer set amount = 11, credit_posted = 11", "gives what its run says"),
        ("update schedule_run set value = 11", "gives what its run says"),
        ("update schedule_run set kind = 3", "gives what its run says"),
        ("update schedule_credit set outcome = 'failed', voice_reference = null", "has its due date"),
        ("delete from schedule_credit", "has its due date"),
        ("update schedule_run set credited = 2", "counts whom it credited"),
        ("update schedule_run set due_on = '2026-11-04'", "gives what its run says"),
        ("update transfer set debit_account_id = 2", "gives what its run says"),
    ],
)
def test_audit_names_what_was_tampered_with(damage, law):
    tampered_with(damage, law, kind=1)


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update transfer set amount = 11, credit_posted = 11", "gives what its run says"),
        ("update schedule_run set kind = 1", "gives what its run says"),
        ("update schedule_credit set sms_reference = null", "has its due date"),
        ("update schedule_credit set outcome = 'failed', sms_reference = null", "has its due date"),
        ("update transfer set credit_account_id = 1", "gives what its run says"),
        ("update account set posted = 11 where kind = 'sms' and posted > 0", "is the sum of its transfers"),
    ],
)
def test_audit_names_tampered_credits_of_sms_too(damage, law):
    tampered_with(damage, law, kind=4)


def tampered_with(damage, law, *, kind):
    engine = database()
    with_members(engine, "u1001", kind=kind)
    go(engine)
    proved(engine)
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
        assert any(law in each.law for each in audit(tx).differences)
    engine.dispose()


def test_an_uncredited_member_has_no_sms_reference(engine):
    with_members(engine, "u1001", kind=4)
    go(engine)
    with pytest.raises(sa.exc.IntegrityError, match="no_sms"), engine.begin() as tx:
        tx.execute(sa.text("update schedule_credit set outcome = 'failed'"))


# -- the process dies ------------------------------------------------------------------------------------------------


def _prepared(path):
    engine = database(path)
    with_members(engine, *U, kind=3, count=2)
    with engine.begin() as tx:
        made = plan(tx, name="second", value=7)
        for number in range(1, 5):
            schedules_memberships.join(tx, made, subscriber(tx, number).id, count=1 + number % 2, now=NOW)
        subscriber_records.enable(tx, "u3", enabled=False, now=NOW)
    engine.dispose()


def _hurried(path):
    """Open it without waiting for the disk: what dies here is the process."""
    engine = open_engine(f"sqlite:///{path}", lock_seconds=1)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("pragma synchronous=off"))
    return engine


def _dying(path, at):
    """Do the round in a process of its own that is gone, without a word, before its statement number ``at``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        engine = _hurried(path)
        left = [at]

        def count(*_):
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)

        sa.event.listen(engine, "before_cursor_execute", count)
        sa.event.listen(engine, "commit", count)
        go(engine, NOW + DAY)
    except BaseException:  # noqa: BLE001
        os._exit(1)
    os._exit(0)


def _outcome(path):
    engine = _hurried(path)
    go(engine, NOW + DAY)
    proved(engine)
    with engine.begin() as tx:
        everyone = [each.username for each in subscriber_records.list_all(tx)]
        memberships = tx.execute(sa.select(tables.membership).order_by(tables.membership.c.id)).all()
    found = (
        sorted(credit_rows(engine)),
        [pots(engine, each) for each in everyone],
        states(engine),
        list(map(tuple, memberships)),
    )
    engine.dispose()
    return found


@pytest.mark.nightly  # a process for each statement of a run: 13 s
def test_a_run_killed_anywhere_credits_each_date_once(tmp_path):
    original, path = tmp_path / "original.sqlite", tmp_path / "killed.sqlite"
    _prepared(original)

    def fresh():
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"killed.sqlite{suffix}").unlink(missing_ok=True)
        shutil.copy(original, path)

    fresh()
    wanted = _outcome(path)
    assert len(wanted[0]) == 12
    deaths = 0
    for at in range(1, 1000):
        fresh()
        status = _dying(path, at)
        assert _outcome(path) == wanted, at
        if status == 0:
            break
        assert status == 9
        deaths += 1
    assert deaths > 60
