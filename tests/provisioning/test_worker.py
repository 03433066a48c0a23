"""The queue of the radio networks: a change and its row are one, and whatever fails, the network ends up right."""

import contextlib
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred

from celcombiller.core import retry
from celcombiller.core.audit.report import audit
from celcombiller.core.errors import BillerError, NetworkUnavailable
from celcombiller.core.model.subscribers import Level
from celcombiller.core.provisioning import desired_state, drift, work_queue
from celcombiller.core.provisioning import status as provisioning_status
from celcombiller.core.provisioning.drift import Drift
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NumberTaken
from celcombiller.core.provisioning.plan import apply_step, plan_steps
from celcombiller.core.provisioning.work_queue import ProvisioningTask
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.provisioning import reconciliation
from celcombiller.provisioning.worker import BATCH_MAX, LEASE
from tests.support import databases
from tests.support.deferreds import result_of
from tests.support.fakes.radio_network import START, Clockwork, FakeNetwork
from tests.support.properties import share


@pytest.fixture
def engine(tmp_path):
    made = databases.sqlite(tmp_path / "queue.sqlite")
    yield made
    made.dispose()


@pytest.fixture
def village(engine):
    return Clockwork(engine, FakeNetwork())


def imsi(number):
    return f"72400000000{number}"


def add(village, number, *, who=None, its_imsi=None):
    return village.do(
        lambda tx: subscriber_records.add(
            tx,
            username=who or f"u{number}",
            name="N",
            clid=str(number),
            imsi=its_imsi or imsi(number),
            cpf=None,
            address="",
            level=Level.SUBSCRIBER,
            password_hash=None,
            now=village.now,
        )
    )


def change(village, who, **facts):
    return village.do(lambda tx: subscriber_records.change(tx, who, facts, village.now))


def delete(village, who):
    return village.do(lambda tx: subscriber_records.delete(tx, who, village.now))


def numbers(village):
    return {each.imsi: each.msisdn for each in village.network.entries.values()}


def status(village):
    (backlog,) = village.do(provisioning_status.backlog)
    return backlog


# -- a subscriber's life ---------------------------------------------------------------------------------------------


def test_an_entry_follows_its_subscribers_life(village):
    made = add(village, 2001)
    village.work()
    assert village.network.entries == {imsi(2001): ProvisioningEntry(imsi(2001), "2001", str(made.id))}
    change(village, "u2001", clid="2009")
    village.work()
    assert numbers(village) == {imsi(2001): "2009"}
    change(village, "u2001", enabled=False)
    village.work()
    assert numbers(village) == {}
    change(village, "u2001", enabled=True)
    village.work()
    assert numbers(village) == {imsi(2001): "2009"}
    delete(village, "u2001")
    village.work()
    assert numbers(village) == {}
    assert village.do(audit).ok


def test_a_new_imsi_replaces_the_old_entry_first(village):
    add(village, 2001)
    village.work()
    village.network.heard.clear()
    change(village, "u2001", imsi=imsi(2002))
    village.work()
    assert village.network.heard == [("delete", imsi(2001)), ("create", imsi(2002))]
    assert numbers(village) == {imsi(2002): "2001"}


def test_a_new_imsi_waits_for_the_old_removal(village):
    add(village, 2001)
    village.work()
    change(village, "u2001", imsi=imsi(2002))
    village.network.troubles = [None, "refused"]
    village.work()
    assert numbers(village) == {imsi(2001): "2001"}
    assert (status(village).waiting, status(village).failing) == (2, 1)
    village.later(seconds=2)
    village.work()
    assert numbers(village) == {imsi(2002): "2001"}


def test_swapped_numbers_reach_an_absent_network_later(village):
    add(village, 2001)
    add(village, 2002)
    village.work()
    for who, clid in (("u2001", "9"), ("u2002", "2001"), ("u2001", "2002")):
        change(village, who, clid=clid)
    village.work()
    assert numbers(village) == {imsi(2001): "2002", imsi(2002): "2001"}


def test_swapped_numbers_survive_different_back_offs(village):
    add(village, 2001)
    add(village, 2002)
    village.work()
    for who, clid in (("u2001", "9"), ("u2002", "2001"), ("u2001", "2002")):
        change(village, who, clid=clid)
    with village.engine.begin() as tx:
        tx.execute(sa.text("update network_entry set next_try_at = '2030-01-01', attempts = 9 where msisdn = '2001'"))
    village.work()
    assert numbers(village) == {imsi(2001): "2002", imsi(2002): "2001"}
    assert status(village).waiting == 0


def test_an_irrelevant_change_sends_nothing(village):
    add(village, 2001)
    village.work()
    change(village, "u2001", name="Other", address="elsewhere", password_hash="x")
    assert status(village).waiting == 0


def test_the_first_administrators_imsi_is_not_provisioned(village):
    add(village, 0, who="admin", its_imsi="000000000000000")
    assert status(village).entries == 0
    assert village.do(audit).ok


def test_without_a_network_no_row_is_written(engine):
    with engine.begin() as tx:
        made = subscriber_records.add(
            tx,
            username="a",
            name="A",
            clid="1",
            imsi="724001",
            cpf=None,
            address="",
            level=Level.SUBSCRIBER,
            password_hash=None,
            now=START,
        )
        desired_state.sync_subscriber(tx, made, START)
        assert tx.execute(sa.select(tables.network_entry)).all() == []


def test_a_new_network_learns_all_subscribers(village):
    for number in (2001, 2002):
        add(village, number)
    change(village, "u2002", enabled=False)
    village.do(lambda tx: desired_state.configure(tx, {"village": "openbts", "hill": "osmocom"}, village.now))
    assert [each.imsi for each in village.do(lambda tx: desired_state.desired(tx, "hill")).entries] == [imsi(2001)]
    assert village.do(audit).ok


def test_subscribers_added_by_sql_are_queued_on_request(village):
    add(village, 2001)
    village.do(lambda tx: tx.execute(sa.text("update subscriber set clid = '2009'")))
    village.do(
        lambda tx: tx.execute(
            sa.insert(tables.subscriber).values(
                username="b", name="B", clid="2002", imsi=imsi(2002), level=1, enabled=True, created_at=village.now
            )
        )
    )
    assert len(village.do(audit).differences) == 2
    village.do(lambda tx: desired_state.enqueue_missing(tx, village.now))
    village.work()
    assert numbers(village) == {imsi(2001): "2009", imsi(2002): "2002"}
    assert village.do(audit).ok


def test_a_removed_network_collects_until_forgotten(village):
    village.do(lambda tx: desired_state.configure(tx, {"hill": "osmocom"}, village.now))
    add(village, 2001)
    assert [each.waiting for each in village.do(provisioning_status.backlog)] == [1, 1]
    assert village.do(lambda tx: desired_state.forget(tx, "village"))
    assert not village.do(lambda tx: desired_state.forget(tx, "village"))
    assert [each.network for each in village.do(provisioning_status.backlog)] == ["hill"]


def test_a_rolled_back_change_leaves_no_row(village):
    with village.engine.connect() as tx:
        subscriber_records.add(
            tx,
            username="a",
            name="A",
            clid="1",
            imsi="724001",
            cpf=None,
            address="",
            level=Level.SUBSCRIBER,
            password_hash=None,
            now=START,
        )
        tx.rollback()
    assert status(village).waiting == 0


@pytest.mark.parametrize(
    "damage",
    [
        "update network_entry set msisdn = '7'",
        "delete from network_entry",
        "update network_entry set wanted = false, msisdn = ''",
        "update subscriber set enabled = false",
    ],
)
def test_audit_names_a_row_unlike_its_subscriber(village, damage):
    add(village, 2001)
    village.do(lambda tx: tx.execute(sa.text(damage)))
    (difference,) = village.do(audit).differences
    assert imsi(2001) in difference.subject
    village.do(lambda tx: desired_state.configure(tx, {"village": "openbts"}, village.now))
    assert village.do(audit).ok


# -- trouble ---------------------------------------------------------------------------------------------------------


def test_an_absent_network_backs_off_and_loses_nothing(village):
    add(village, 2001)
    tries = []
    for _ in range(12):
        village.network.troubles = ["away"]
        village.work()
        if not village.network.troubles:
            tries.append(village.now)
        village.later(seconds=1)
    village.network.troubles.clear()
    assert [(each - START).total_seconds() for each in tries] == [0, 1, 3, 7]
    assert "no answer" in status(village).last_error
    assert status(village).failing == 0, "no row is to blame"
    village.settle()
    assert numbers(village) == {imsi(2001): "2001"}
    assert status(village).last_error == ""


@pytest.mark.parametrize("verb", ["create", "change", "delete"])
def test_a_lost_answer_does_no_harm(village, verb):
    if verb != "create":
        add(village, 2001)
        village.work()
    village.network.troubles = [None, "answer lost"]
    if verb == "create":
        add(village, 2001)
    elif verb == "change":
        change(village, "u2001", clid="2002")
    else:
        delete(village, "u2001")
    village.network.heard.clear()
    village.work()
    assert status(village).waiting == 1
    village.settle()
    assert village.network.heard == [(verb, imsi(2001))], "carried out once"
    assert village.network.entries == village.wanted()


def test_a_false_confirmation_is_detected(village):
    add(village, 2001)
    village.network.troubles = [None, "said, not done"]
    village.work()
    (trouble,) = village.do(lambda tx: provisioning_status.troubles(tx, "village", limit=9))
    assert (trouble.attempts, trouble.error) == (1, "the network said it did this, and did not")
    village.settle()
    assert numbers(village) == {imsi(2001): "2001"}


def test_one_that_is_refused_holds_up_no_other(village):
    for number in (2001, 2002, 2003):
        add(village, number)
    village.network.troubles = [None, None, "refused"]
    village.work()
    assert numbers(village) == {imsi(2001): "2001", imsi(2003): "2003"}
    village.settle()
    assert village.network.entries == village.wanted()


def test_a_row_causing_silence_does_not_block(village):
    for number in (2001, 2002):
        add(village, number)
    village.network.troubles = [None, "away"]
    village.work()
    village.later(seconds=1)
    village.network.troubles = []
    village.do(lambda tx: tx.execute(sa.text("update network_entry set next_try_at = '2030-01-01' where attempts > 0")))
    village.work()
    assert numbers(village) == {imsi(2002): "2002"}


def test_a_strangers_number_is_reported_not_taken(village):
    stranger = ProvisioningEntry("999990000000001", "2001", "stranger")
    village.network.entries[stranger.imsi] = stranger
    add(village, 2001)
    village.work()
    (trouble,) = village.do(lambda tx: provisioning_status.troubles(tx, "village", limit=9))
    assert stranger.imsi in trouble.error
    assert village.network.entries == {stranger.imsi: stranger}
    found = compared(village)
    assert [(each.drift, each.imsi, each.holder) for each in found] == [
        (Drift.TAKEN, imsi(2001), stranger.imsi),
        (Drift.UNKNOWN, stranger.imsi, None),
    ]
    del village.network.entries[stranger.imsi]
    village.settle()
    assert numbers(village) == {imsi(2001): "2001"}


def test_a_non_numeric_identity_never_reaches_a_network(village):
    add(village, 2001)
    add(village, 2002)
    village.do(lambda tx: tx.execute(sa.text("update network_entry set msisdn = '1\" or 1=1' where msisdn = '2001'")))
    village.work()
    assert numbers(village) == {imsi(2002): "2002"}
    (trouble,) = village.do(lambda tx: provisioning_status.troubles(tx, "village", limit=9))
    assert "must be 1 to 15 digits" in trouble.error


def test_dead_workers_rows_are_free_after_the_lease(village):
    add(village, 2001)
    village.crash(after=2)
    assert numbers(village) == {imsi(2001): "2001"}, "carried out, and not written down"
    village.work()
    assert status(village).waiting == 1
    village.later(seconds=LEASE.total_seconds() + 1)
    village.work()
    assert status(village).waiting == 0
    assert village.network.heard == [("create", imsi(2001))]


def test_an_overrun_lease_has_the_row_checked(village):
    add(village, 2001)
    slow = village.do(lambda tx: work_queue.claim(tx, "village", "slow", village.now, limit=9, lease=LEASE))
    village.later(seconds=LEASE.total_seconds() + 1)
    village.work()
    assert status(village).waiting == 0
    said = {(each.imsi, each.version): None for each in slow}
    village.do(lambda tx: work_queue.finish(tx, "village", "slow", said, village.now, retry_seconds_max=300))
    assert status(village).waiting == 1


def test_a_row_changed_during_work_is_worked_again(village):
    add(village, 2001)
    due = village.do(lambda tx: work_queue.claim(tx, "village", "me", village.now, limit=9, lease=LEASE))
    change(village, "u2001", clid="2002")
    said = {(each.imsi, each.version): None for each in due}
    village.do(lambda tx: work_queue.finish(tx, "village", "me", said, village.now, retry_seconds_max=300))
    village.work()
    assert numbers(village) == {imsi(2001): "2002"}


@pytest.mark.slow
def test_hundreds_of_changes_survive_an_unsteady_network():
    village = Clockwork(databases.sqlite(), FakeNetwork())
    for number in range(2000, 2000 + 3 * BATCH_MAX):
        add(village, number)
        if number % 3 == 0:
            change(village, f"u{number}", clid=str(number + 5000))
        if number % 7 == 0:
            change(village, f"u{number}", imsi=imsi(number + 5000))
        if number % 11 == 0:
            delete(village, f"u{number}")
        if number % 50 == 0:
            village.network.troubles = ["away", None, "answer lost", "refused", None, "said, not done"]
        village.work()
        village.later(seconds=1)
    village.network.troubles = []
    village.settle()
    assert village.network.entries == village.wanted()
    assert village.do(audit).ok


# -- drift -----------------------------------------------------------------------------------------------------------


def compared(village):
    async def read(work):
        return village.do(work)

    return result_of(Deferred.fromCoroutine(reconciliation.compare("village", village.network, read)))


def queue(village, found, **how):
    how = {"remove_unknown": False, **how}
    return village.do(lambda tx: reconciliation.queue(tx, "village", found, now=village.now, **how))


def test_sync_mends_each_drift_but_spares_strangers(village):
    for number in range(2001, 2006):
        add(village, number)
    village.work()
    delete(village, "u2005")
    village.work()
    there = village.network.entries
    del there[imsi(2001)]
    there[imsi(2002)] = ProvisioningEntry(imsi(2002), "77", there[imsi(2002)].name)
    there[imsi(2003)] = ProvisioningEntry(imsi(2003), "2003", "another name")
    there[imsi(2005)] = ProvisioningEntry(imsi(2005), "2005", "back from the dead")
    there["999990000000001"] = ProvisioningEntry("999990000000001", "5", "stranger")
    found = compared(village)
    assert [(each.imsi, each.drift) for each in found] == [
        (imsi(2001), Drift.MISSING),
        (imsi(2002), Drift.DIFFERENT),
        (imsi(2003), Drift.DIFFERENT),
        (imsi(2005), Drift.LEFT),
        ("999990000000001", Drift.UNKNOWN),
    ]
    assert queue(village, found) == 4
    village.work()
    assert [each.drift for each in compared(village)] == [Drift.UNKNOWN]
    assert queue(village, compared(village), remove_unknown=True) == 1
    village.work()
    assert compared(village) == []
    assert village.do(audit).ok


def test_a_number_in_another_form_is_no_drift(village):
    for number in (2001, 2002):
        add(village, number)
    village.work()
    village.network.entries[imsi(2001)] = replace(village.network.entries[imsi(2001)], msisdn="+2001")
    village.network.entries[imsi(2002)] = replace(village.network.entries[imsi(2002)], msisdn="002002")
    assert compared(village) == []
    add(village, "002002", its_imsi="999990000000002")
    assert [(each.imsi, each.drift) for each in compared(village)] == [
        (imsi(2002), Drift.DIFFERENT),
        ("999990000000002", Drift.TAKEN),
    ]


def test_a_stranger_with_another_form_holds_the_number(village):
    add(village, 2001)
    stranger = ProvisioningEntry("999990000000001", "+2001", "x")
    village.network.entries[stranger.imsi] = stranger
    assert compared(village)[0].holder == stranger.imsi


def test_pending_changes_are_no_drift(village):
    add(village, 2001)
    (difference,) = compared(village)
    assert (difference.drift, difference.waiting) == (Drift.MISSING, True)


def test_an_absent_network_has_an_error_no_drift(village):
    village.network.troubles = ["away"]

    async def asked():
        with pytest.raises(NetworkUnavailable):
            await reconciliation.compare("village", village.network, read)

    async def read(work):
        return village.do(work)

    result_of(Deferred.fromCoroutine(asked()))


entries = st.builds(
    ProvisioningEntry,
    imsi=st.sampled_from([imsi(2001), imsi(2002), imsi(2003)]),
    msisdn=st.sampled_from(["2001", "2002", "2003", ""]),
    name=st.sampled_from(["1", "2"]),
)
dues = st.builds(
    lambda entry, gone: ProvisioningTask(entry.imsi, None if gone else entry, 1),
    entries.filter(lambda e: e.msisdn),
    st.booleans(),
)


@given(dues, st.lists(entries, max_size=5), st.sets(st.sampled_from([imsi(2001), imsi(2002), imsi(2003)])))
def test_steps_lead_to_the_desired_state(due, there, movable):
    try:
        planned = plan_steps(due, there, movable)
    except NumberTaken:
        assert any(each.imsi not in movable | {due.imsi} and each.msisdn == due.entry.msisdn for each in there)
        return
    touched = {each.imsi for each in planned}
    assert touched <= movable | {due.imsi}, "nobody else's entry is touched"
    now = there
    for step in planned:
        now = apply_step(now, step)
    mine = [each for each in now if each.imsi == due.imsi]
    assert mine == ([] if due.entry is None else [due.entry])
    assert plan_steps(due, now, set()) == []


@given(st.lists(entries, max_size=4), st.lists(entries, max_size=5))
def test_equal_entries_are_no_drift(wanted, there):
    wanted = list({each.imsi: each for each in wanted if each.msisdn}.values())
    found = drift.list_differences(desired_state.Desired(wanted, frozenset(), frozenset()), there, names=True)
    told = {each.imsi for each in found}
    for imsi_ in {each.imsi for each in (*wanted, *there)}:
        same = [e for e in wanted if e.imsi == imsi_] == [e for e in there if e.imsi == imsi_]
        assert same == (imsi_ not in told)


@given(st.integers(1, 10_000), st.floats(1, 3600))
def test_the_wait_grows_and_has_an_end(attempts, longest):
    wait = retry.retry_after(attempts, longest).total_seconds()
    assert 1 <= wait <= longest + 1e-6
    assert wait <= retry.retry_after(attempts + 1, longest).total_seconds()


# -- any order of changes and mishaps --------------------------------------------------------------------------------


class Village(RuleBasedStateMachine):
    """Subscribers come, change and go; the network fails; billers die. Proved after each step, equal in the end."""

    @initialize(keeps_names=st.booleans(), unique=st.booleans())
    def begin(self, keeps_names, unique):
        self.engine = databases.sqlite()
        self.village = Clockwork(self.engine, FakeNetwork(keeps_names=keeps_names, unique=unique))
        self.stranger = None

    people = st.sampled_from(["a", "b", "c", "d"])
    clids = st.sampled_from(["2001", "2002", "2003", "2004"])
    imsis = st.sampled_from([imsi(2001), imsi(2002), imsi(2003), imsi(2004)])

    def _change(self, work):
        with contextlib.suppress(BillerError):
            self.village.do(work)

    @rule(who=people, clid=clids, its_imsi=imsis)
    def add(self, who, clid, its_imsi):
        self._change(
            lambda tx: subscriber_records.add(
                tx,
                username=who,
                name="N",
                clid=clid,
                imsi=its_imsi,
                cpf=None,
                address="",
                level=Level.SUBSCRIBER,
                password_hash=None,
                now=self.village.now,
            )
        )

    @rule(who=people, clid=clids)
    def renumber(self, who, clid):
        self._change(lambda tx: subscriber_records.change(tx, who, {"clid": clid}, self.village.now))

    @rule(who=people, its_imsi=imsis)
    def new_card(self, who, its_imsi):
        self._change(lambda tx: subscriber_records.change(tx, who, {"imsi": its_imsi}, self.village.now))

    @rule(who=people, enabled=st.booleans())
    def enable(self, who, enabled):
        self._change(lambda tx: subscriber_records.enable(tx, who, self.village.now, enabled=enabled))

    @rule(who=people)
    def delete(self, who):
        self._change(lambda tx: subscriber_records.delete(tx, who, self.village.now))

    @rule(
        troubles=st.lists(st.sampled_from([None, None, "away", "refused", "answer lost", "said, not done"]), max_size=8)
    )
    def work_badly(self, troubles):
        self.village.network.troubles = troubles
        self.village.work()
        self.village.network.troubles = []

    @rule()
    def work(self):
        self.village.work()

    @rule(after=st.integers(0, 4), troubles=st.lists(st.sampled_from([None, "answer lost"]), max_size=4))
    def die(self, after, troubles):
        self.village.network.troubles = troubles
        self.village.crash(after)
        self.village.network.troubles = []

    @rule(seconds=st.sampled_from([1, 10, 100, 1000]))
    def later(self, seconds):
        self.village.later(seconds=seconds)

    @precondition(lambda self: self.stranger is None)
    @rule(clid=clids)
    def stranger_comes(self, clid):
        network = self.village.network
        if not any(each.msisdn == clid for each in network.entries.values()):
            self.stranger = network.entries["999990000000001"] = ProvisioningEntry("999990000000001", clid, "")

    @rule()
    def stranger_goes(self):
        self.village.network.entries.pop("999990000000001", None)
        self.stranger = None

    @rule()
    def prove(self):
        assert self.village.do(audit).ok

    @invariant()
    def strangers_are_left_alone(self):
        if hasattr(self, "village"):
            assert self.village.network.entries.get("999990000000001") == self.stranger

    def teardown(self):
        self.prove()
        self.stranger_goes()
        self.village.settle()
        assert self.village.network.entries == self.village.wanted()
        self.engine.dispose()


TestVillage = Village.TestCase
TestVillage.settings = share(0.4)
