"""OpenBTS over real ZeroMQ, against a NodeManager of ours that has the faults of the true one."""

import random
import string
import time
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from celcombiller.core.errors import InvalidValue, NetworkUnavailable, UnknownSubscriber
from celcombiller.core.model.subscribers import Level
from celcombiller.core.provisioning import desired_state, status
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NetworkRefused
from celcombiller.core.reports import open_items
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.provisioning.openbts import OpenBts
from celcombiller.provisioning.reconciliation import compare
from celcombiller.provisioning.worker import ProvisioningWorker
from tests.support import databases
from tests.support.fakes.node_manager import NodeManager

ANA = ProvisioningEntry("724000000002001", "2001", "7")


@pytest.fixture
def manager():
    made = NodeManager().start()
    yield made
    made.stop()


def network_to(port, seconds=5.0):
    return OpenBts(reactor, "village", "127.0.0.1", port, answer_seconds=seconds)


@pytest_twisted.async_yield_fixture
async def openbts(manager):
    made = network_to(manager.port)
    yield made
    await made.close()


# -- the back end alone ----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_entry_is_handled_in_the_originals_words(openbts, manager):
    assert await openbts.list_all() == []
    await openbts.create(ANA)
    assert await openbts.read({ANA.imsi}, set()) == [ANA]
    assert await openbts.read(set(), {"2001"}) == [ANA]
    assert await openbts.read({"724000000009999"}, {"9999"}) == []
    changed = ProvisioningEntry(ANA.imsi, "2002", "7")
    await openbts.change(ANA, changed)
    assert await openbts.list_all() == [changed]
    await openbts.delete(ANA.imsi)
    assert await openbts.list_all() == []
    sent = [each for each in manager.requests if each["action"] != "read"]
    assert sent == [
        {
            "command": "subscribers",
            "action": "create",
            "fields": {"name": "7", "imsi": "IMSI724000000002001", "msisdn": "2001", "ki": ""},
        },
        {
            "command": "subscribers",
            "action": "update",
            "match": {"imsi": "IMSI724000000002001"},
            "fields": {"name": "7", "msisdn": "2002"},
        },
        {"command": "subscribers", "action": "delete", "match": {"imsi": "IMSI724000000002001"}},
    ]


@pytest.mark.parametrize("damage", [*string.punctuation, " ", "\n", "\x00", "é", "٣", "１"])  # noqa: RUF001  digits of others
@pytest.mark.parametrize("field", ["imsi", "msisdn", "name"])
@pytest_twisted.ensureDeferred
async def test_nothing_but_digits_is_ever_sent(field, damage):
    wrong = ProvisioningEntry(**{"imsi": ANA.imsi[:-1], "msisdn": "20", "name": "7"} | {field: f"7240000{damage}"})
    network = network_to(1)
    with pytest.raises(InvalidValue, match=field):
        await network.create(wrong)
    with pytest.raises(InvalidValue, match=field):
        await network.change(ANA, wrong)
    if field == "imsi":
        with pytest.raises(InvalidValue):
            await network.delete(wrong.imsi)
    await network.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b'"200"',
        b"{}",
        b'{"code": "200"}',
        b'{"code": 200}',
        b'{"code": 200, "data": "both ok"}',
        b'{"code": 200, "data": [["a"]]}',
        b'{"code": 200, "data": [{"imsi": "IMSI724000000002001", "name": "7", "msisdn": "2001"}',
        b'{"code": 503}',
        b'{"code": 501}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_broken_list_is_never_an_empty_network(openbts, manager, answer):
    manager.troubles = [answer]
    with pytest.raises(NetworkUnavailable):
        await openbts.list_all()
    assert await openbts.list_all() == []


@pytest_twisted.ensureDeferred
async def test_impossible_rows_are_skipped_half_ones_reported(openbts, manager):
    manager.troubles = [
        b'{"code": 200, "data": [{"imsi": "IMSI724000000002001", "name": null, "msisdn": null},'
        b' {"imsi": "smqueue", "name": "x", "msisdn": "411"}, {"name": "y"}]}'
    ]
    assert await openbts.list_all() == [ProvisioningEntry(ANA.imsi, "", "")]


@pytest.mark.parametrize("written", ["+2001", "2001 ", "20-01", "tel:+2001", "sip:2001@10.0.0.1", "(20) 01"])
@pytest_twisted.ensureDeferred
async def test_a_number_is_known_in_any_form(openbts, manager, written):
    """OpenBTS keeps what was typed into it: the number is the same, for the subscriber's own and for others."""
    row = {"imsi": "IMSI724000000002001", "name": "7", "msisdn": written}
    manager.troubles = [{"code": 200, "data": [row]}, {"code": 200, "data": [row]}]
    assert await openbts.list_all() == [ANA]
    assert await openbts.read([], ["2001"]) == [ANA]
    assert openbts.unreadable == []


BAD_ROWS = (
    b'{"imsi": "IMSI724000000009999", "name": "Jos\xe9", "msisdn": "9999"}',
    b'{"imsi": "IMSI724000000009999", "name": "a\tb", "msisdn": "9999"}',
    b'{"imsi": "IMSI724000000009999", "name": "b", "msisdn": 9999}',
    b'{"imsi": 5, "name": "b", "msisdn": "9999"}',
    b'{"imsi": ["IMSI724000000009999"], "name": {}, "msisdn": "9999"}',
    b'{"name": "b", "msisdn": "9999"}',
    b'{"imsi": "", "name": "b", "msisdn": "9999"}',
    b'{"imsi": "IMSI724000000009999", "name": "\\ud800", "msisdn": "9999"}',
    b'{"imsi": "IMSI724000000009999", "name": ' + b"9" * 400 + b"}",
    b"null",
    b"[]",
)


@pytest.mark.parametrize("row", BAD_ROWS)
@pytest_twisted.ensureDeferred
async def test_one_bad_row_hides_no_other(openbts, manager, row):
    good = b'{"imsi": "IMSI724000000002001", "name": "7", "msisdn": "2001"}'
    manager.troubles = [b'{"code": 200, "data": [' + row + b", " + good + b"]}"]
    assert [each for each in await openbts.list_all() if each.msisdn != "9999"][-1] == ANA
    (bad,) = openbts.unreadable
    assert bad.text.isprintable()
    assert len(bad.text) < 200


@pytest.mark.parametrize("spelled", ["724000000002001", "imsi724000000002001"])
@pytest_twisted.ensureDeferred
async def test_a_row_keeps_its_spelling(openbts, manager, spelled):
    manager.sip_buddies = [{"username": spelled, "name": "1", "callerid": "2009"}]
    manager.dialdata = [{"dial": spelled, "exten": "2009"}]
    (was,) = await openbts.list_all()
    assert was == ProvisioningEntry(ANA.imsi, "2009", "1")
    await openbts.change(was, ANA)
    assert manager.numbers() == [(spelled, "2001")]
    assert await openbts.list_all() == [ANA]
    await openbts.delete(ANA.imsi)
    assert manager.numbers() == []


@pytest_twisted.ensureDeferred
async def test_each_spelling_of_one_imsi_is_removed(openbts, manager):
    for spelled in ("IMSI724000000002001", "724000000002001"):
        manager.sip_buddies.append({"username": spelled, "name": "1", "callerid": "2009"})
        manager.dialdata.append({"dial": spelled, "exten": "2009"})
    assert len(await openbts.list_all()) == 2
    await openbts.delete(ANA.imsi)
    assert manager.numbers() == []


@pytest.mark.parametrize("code", [406, 409, 500, 503])
@pytest_twisted.ensureDeferred
async def test_a_no_is_a_refusal_of_that_one(openbts, manager, code):
    manager.troubles = [{"code": code}]
    with pytest.raises(NetworkRefused, match=str(code)):
        await openbts.create(ANA)


@pytest_twisted.ensureDeferred
async def test_a_timeout_leaves_the_next_question_working():
    manager = NodeManager().start()
    network = network_to(manager.port, seconds=0.3)
    manager.troubles = ["no answer"]
    with pytest.raises(NetworkUnavailable, match="does not answer within"):
        await network.list_all()
    assert await network.list_all() == []
    manager.stop()
    with pytest.raises(NetworkUnavailable):
        await network.create(ANA)
    manager.start()
    assert await network.list_all() == [], "what was given up is not delivered later"
    await network.close()
    manager.stop()


@pytest_twisted.ensureDeferred
async def test_a_stop_does_not_wait_for_answers():
    network = network_to(1, seconds=60)
    waiting = network.list_all()
    failed = []
    asked = Deferred.fromCoroutine(waiting).addErrback(lambda failure: failed.append(failure.value))
    began = time.monotonic()
    await network.close()
    await asked
    assert time.monotonic() - began < 60
    assert isinstance(failed[0], NetworkUnavailable)


# -- with the queue --------------------------------------------------------------------------------------------------


class Village:
    """A database and the provisioner of an OpenBTS; time is moved by hand, waits are real."""

    def __init__(self, path, port, *, seconds=0.3):
        self.engine = databases.sqlite(path)
        self.network = network_to(port, seconds)
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.provisioner = ProvisioningWorker(
            "village",
            self.network,
            transact=self.through,
            read=self.through,
            now=lambda: self.now,
            retry_seconds_max=300,
        )
        self.do(lambda tx: desired_state.configure(tx, {"village": "openbts"}, self.now))

    def do(self, work):
        return transact(self.engine, work)

    def through(self, work):
        return deferToThread(transact, self.engine, work)

    def add(self, number):
        return self.do(
            lambda tx: subscriber_records.add(
                tx,
                username=f"u{number}",
                name="N",
                clid=str(number),
                imsi=f"72400000000{number}",
                cpf=None,
                address="",
                level=Level.SUBSCRIBER,
                password_hash=None,
                now=self.now,
            )
        )

    async def settle(self):
        for _ in range(20):
            self.now += timedelta(seconds=300)
            await self.provisioner.work()
            if self.waiting() == 0:
                return
        raise AssertionError(self.do(lambda tx: status.troubles(tx, "village", limit=9)))

    def waiting(self):
        return self.do(status.backlog)[0].waiting

    def wanted(self):
        entries = self.do(lambda tx: desired_state.desired(tx, "village")).entries
        return sorted((f"IMSI{each.imsi}", each.msisdn) for each in entries)


@pytest_twisted.async_yield_fixture
async def village(tmp_path, manager):
    made = Village(tmp_path / "village.sqlite", manager.port)
    yield made
    await made.provisioner.close()
    made.engine.dispose()


@pytest.mark.parametrize(
    "troubles",
    [
        [None, "answer lost"],
        [None, "no answer"],
        [None, "half"],
        [None, b"not json"],
        [None, {"code": 503}],
        [None, {"code": 200}, b"{}"],
        ["no answer", "no answer"],
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_any_fault_leaves_one_entry(village, manager, troubles):
    village.add(2001)
    manager.troubles = list(troubles)
    await village.settle()
    assert manager.numbers() == [("IMSI724000000002001", "2001")]
    assert len(manager.dialdata) == 1


@pytest_twisted.ensureDeferred
async def test_a_delete_without_effect_is_repeated(village, manager):
    village.add(2001)
    await village.provisioner.work()
    village.do(lambda tx: subscriber_records.delete(tx, "u2001", village.now))
    asked = manager._done
    manager._done = lambda request: {"code": 200} if request["action"] == "delete" else asked(request)
    await village.provisioner.work()
    assert village.waiting() == 1
    manager._done = asked
    await village.settle()
    assert manager.numbers() == []


@pytest_twisted.ensureDeferred
async def test_one_bad_row_is_named_and_blocks_none(village, manager):
    village.add(2001)
    manager.sip_buddies.append({"username": 5, "name": "Jos\t\ufffd", "callerid": "9"})
    await village.provisioner.work()
    assert ("IMSI724000000002001", "2001") in manager.numbers()
    (backlog,) = village.do(status.backlog)
    assert (backlog.waiting, backlog.failing, backlog.last_error) == (0, 0, "")
    assert backlog.warning.startswith("rows of its list that cannot be read: 1, such as")
    assert village.do(lambda tx: open_items.count_open_items(tx, village.now)).networks["village"].has_warning
    (difference,) = await compare("village", village.network, village.through)
    assert (difference.drift, difference.imsi) == ("unreadable", "")
    assert '"imsi": 5' in difference.row
    manager.sip_buddies[:] = [each for each in manager.sip_buddies if each["username"] != 5]
    village.add(2002)
    await village.provisioner.work()
    (backlog,) = village.do(status.backlog)
    assert backlog.warning == ""


@pytest_twisted.ensureDeferred
async def test_a_disabled_phone_in_another_spelling_is_removed(village, manager):
    manager.sip_buddies.append({"username": "724000000002001", "name": "1", "callerid": "2001"})
    manager.dialdata.append({"dial": "724000000002001", "exten": "2001"})
    village.add(2001)
    await village.settle()
    assert manager.numbers() == [("724000000002001", "2001")]
    village.do(lambda tx: subscriber_records.enable(tx, "u2001", village.now, enabled=False))
    await village.settle()
    assert manager.numbers() == []


@pytest_twisted.ensureDeferred
async def test_a_duplicate_imsi_is_reported_and_merged(village, manager):
    village.add(2001)
    await village.provisioner.work()
    await village.network.create(ANA)
    assert len(manager.numbers()) == 4, "each row with each number"
    (difference,) = await compare("village", village.network, village.through)
    assert difference.drift == "different"
    village.do(lambda tx: desired_state.requeue(tx, "village", [ANA.imsi], village.now))
    await village.settle()
    assert manager.numbers() == [("IMSI724000000002001", "2001")]


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_hundreds_of_changes_survive_kills_without_duplicates(village, manager):
    dice = random.Random(6)
    alive = []
    for number in range(2000, 2400):
        village.add(number)
        alive.append(number)
        if dice.random() < 0.5:
            village.do(lambda tx: some_change(tx, dice.choice(alive), dice, village.now))
        if number % 40 == 0:
            manager.stop()
        if number % 40 == 20:
            manager.start()
            manager.troubles = dice.choices([None, "answer lost", {"code": 503}], k=4)
        if number % 10 == 5:
            await village.provisioner.work()
            village.now += timedelta(seconds=10)
    manager.stop()
    manager.start()
    manager.troubles = []
    await village.settle()
    assert manager.numbers() == village.wanted()
    assert len(manager.dialdata) == len(manager.sip_buddies) == len(village.wanted()) > 200
    assert await compare("village", village.network, village.through) == []


def some_change(tx, number, dice, now):
    who = f"u{number}"
    try:
        found = subscriber_records.find(tx, who)
    except UnknownSubscriber:
        return
    match dice.randrange(4):
        case 0:
            subscriber_records.change(tx, who, {"clid": str(number + 50_000 + dice.randrange(10) * 1000)}, now)
        case 1:
            subscriber_records.change(tx, who, {"imsi": f"7241{dice.randrange(10**6):06}{number:05}"}, now)
        case 2:
            subscriber_records.enable(tx, who, now, enabled=not found.enabled)
        case 3:
            subscriber_records.delete(tx, who, now)
