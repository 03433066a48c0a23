"""Messages by SMPP, against an SMSC of the tests' own: what it takes, refuses, does not answer, and reports later."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import pytest_twisted
import sqlalchemy as sa
from smpplib import consts
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from celcombiller.config.tables import Smpp, Sms
from celcombiller.core.charging import messages
from celcombiller.core.schema import tables
from celcombiller.jobs import sms_outbox
from celcombiller.jobs.expiry import expire_messages
from celcombiller.smpp import client, inbound
from tests.support.fakes.smsc import MessageCentre, named, parameter, raw_pdu
from tests.support.http.api_service import Biller

pytestmark = pytest.mark.slow  # many wait for seconds
CREDIT = 100
WAYS = Sms(
    on_net_route="smpp", off_net_route="smpp", on_net_price=2, off_net_price=5, sender="Rede", retry_seconds_max=1
)


async def until(condition, what, *, seconds=8):
    for _ in range(int(seconds / 0.02)):
        if answer := condition():
            return answer
        await deferLater(reactor, 0.02)
    raise AssertionError(what)


class House:
    """A biller, the centre it is connected to, and an administrator."""

    def __init__(self, folder, centre=None, sections=None, **smpp):
        self.centre = centre or MessageCentre()
        facts = {"host": "127.0.0.1", "port": self.centre.port, "system_id": "biller", "password": "secret"}
        self.smpp = Smpp(**facts | {"per_second": 1000} | smpp)
        self.biller = Biller(folder, {}, "", **{"sms": WAYS, "smpp": self.smpp} | (sections or {}))

    async def begin(self):
        self.admin = await self.biller.logged_in("admin")
        order = {"username": "ana", "kind": "voice", "value": CREDIT}
        assert (await self.admin.post("/api/v1/transfers", order, headers={"Idempotency-Key": "c"})).code == 201
        await until(lambda: self.centre.bound, "the link is up")
        return self

    async def send(self, text="hello", to="5599", key="k", username="ana"):
        order = {"to": to, "text": text, "username": username}
        answer = await self.admin.post("/api/v1/messages", order, headers={"Idempotency-Key": key})
        assert answer.code == 201, answer.bytes
        return answer.body

    def message(self):
        return self.biller.rows(tables.message)[-1]

    async def becomes(self, *states):
        return await until(
            lambda: (row := self.message())["state"] in states and row, f"it becomes {states}: {self.message()}"
        )

    def check(self, *, cost):
        with self.biller.engine.connect() as tx:
            table = tables.account
            mine = sa.select(table.c.posted, table.c.held).where(table.c.subscriber_id == 2, table.c.kind == "voice")
            assert tuple(tx.execute(mine).one()) == (CREDIT - cost, 0)
        report = self.biller.audit()
        assert report.ok, report.differences

    async def end(self):
        await self.biller.stop()
        await self.centre.stop()
        await deferLater(reactor, 0.02)


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield pytest_twisted.blockon(Deferred.fromCoroutine(made.begin()))
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()))


@pytest_twisted.ensureDeferred
async def test_an_accepted_message_is_charged_and_sent_unchanged(house):
    await house.send()
    await house.becomes("accepted")
    (pdu,) = house.centre.submitted
    assert house.centre.bound == [(b"biller", b"secret")]
    assert (pdu.source_addr, pdu.source_addr_ton, pdu.destination_addr, pdu.dest_addr_ton) == (b"1002", 1, b"5599", 1)
    assert (pdu.short_message, pdu.data_coding, pdu.esm_class, pdu.registered_delivery) == (b"hello", 0, 0, 1)
    house.check(cost=5)
    assert house.message()["text"] is None


@pytest_twisted.ensureDeferred
async def test_the_operators_message_is_free_and_named(house):
    await house.send(to="1003", username=None)
    await house.becomes("accepted")
    (pdu,) = house.centre.submitted
    assert (pdu.source_addr, pdu.source_addr_ton, pdu.source_addr_npi) == (b"Rede", 5, 0)
    house.check(cost=0)


@pytest.mark.parametrize(
    ("text", "coding", "sizes"), [("x" * 152 + "€" + "y" * 10, 0, [152, 12]), ("x" * 66 + "😀" + "ç" * 9, 8, [132, 22])]
)
@pytest_twisted.ensureDeferred
async def test_a_long_text_goes_in_joinable_parts(house, text, coding, sizes):
    await house.send(text)
    await house.becomes("accepted")
    parts = [each.short_message for each in house.centre.submitted]
    number = house.message()["id"]
    assert [each[:6] for each in parts] == [bytes((5, 0, 3, number, 2, n)) for n in (1, 2)]
    assert [len(each) - 6 for each in parts] == sizes
    assert {(each.esm_class, each.data_coding) for each in house.centre.submitted} == {(0x40, coding)}
    if coding == 8:
        assert b"".join(each[6:] for each in parts).decode("utf-16-be") == text
    house.check(cost=10)


@pytest.mark.slow
@pytest.mark.parametrize("status", [consts.SMPP_ESME_RTHROTTLED, consts.SMPP_ESME_RMSGQFUL, consts.SMPP_ESME_RSYSERR])
@pytest_twisted.ensureDeferred
async def test_a_throttling_smsc_is_asked_again(house, status):
    house.centre.statuses = [status, status]
    await house.send()
    await house.becomes("accepted")
    assert len(house.centre.submitted) == 1
    assert house.message()["attempts"] == 2
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_no_part_starts_near_the_leases_end(house, monkeypatch):
    monkeypatch.setattr(client, "PART_TIME", sms_outbox.LEASE)
    await house.send()
    await until(lambda: house.message()["attempts"], "it was tried")
    assert (house.message()["state"], house.centre.submitted) == ("queued", [])
    monkeypatch.setattr(client, "PART_TIME", timedelta(0))
    await house.becomes("accepted")
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_a_refused_message_is_free_despite_accepted_parts(house):
    house.centre.statuses = [consts.SMPP_ESME_ROK, consts.SMPP_ESME_RINVDSTADR]
    await house.send("x" * 200)
    row = await house.becomes("refused")
    assert "0xb" in row["note"]
    house.check(cost=0)


@pytest.mark.parametrize("fault", [MessageCentre.CUT, MessageCentre.CUT_AFTER])
@pytest_twisted.ensureDeferred
async def test_a_lost_answer_repeats_one_part_charged_once(house, fault):
    house.centre.statuses = [consts.SMPP_ESME_ROK, fault]
    await house.send("x" * 200)
    await house.becomes("accepted")
    sent = [each.short_message[5] for each in house.centre.submitted]
    assert sent == ([1, 2] if fault == MessageCentre.CUT else [1, 2, 2])
    house.check(cost=10)


@pytest.mark.parametrize("text", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_failure_receipt_refunds_once(house, text):
    await house.send()
    await house.becomes("accepted")
    house.check(cost=5)
    more = {} if text else {"receipted_message_id": "m1", "message_state": 5}
    for _ in range(3):
        assert await house.centre.receipt("m1", "UNDELIV", text=text, **more) == 0
    assert (await house.becomes("failed"))["note"].startswith("receipt: ")
    assert await house.centre.receipt("m1", "DELIVRD") == 0
    assert house.message()["state"] == "failed"
    house.check(cost=0)
    reversals = [each for each in house.biller.rows(tables.transfer) if each["origin"] == "reversal"]
    assert [(each["reference"], each["amount"]) for each in reversals] == [("reversal:sms:id:k", 5)]


@pytest_twisted.ensureDeferred
async def test_a_message_is_delivered_with_its_last_part(house):
    await house.send("x" * 200)
    await house.becomes("accepted")
    for _ in range(2):
        assert await house.centre.receipt("m1", "DELIVRD") == 0
        assert await house.centre.receipt("m2", "ACCEPTD") == 0
    assert house.message()["state"] == "accepted"
    assert await house.centre.receipt("m2", "DELIVRD") == 0
    assert house.message()["state"] == "delivered"
    assert await house.centre.receipt("m1", "UNDELIV") == 0
    assert house.message()["state"] == "delivered"
    house.check(cost=10)


@pytest_twisted.ensureDeferred
async def test_meaningless_receipts_are_answered_and_change_nothing(house):
    await house.send()
    await house.becomes("accepted")
    assert await house.centre.receipt("nobody", "UNDELIV") == 0
    assert await house.centre.receipt("", "UNDELIV") == 0
    assert await house.centre.receipt("m1", "NONSENSE") == 0
    assert await house.centre.receipt("m1", "UNDELIV", esm_class=0) == consts.SMPP_ESME_RX_P_APPN
    house.centre.connections[-1].transport.write(bytes((0, 0, 0, 20)) + bytes(range(16)))
    await house.send(key="second")
    await house.becomes("accepted")
    house.check(cost=10)


SUBMIT_SM_RESP, UNKNOWN, UNKNOWN_RESP, ALERT_NOTIFICATION = 0x80000004, 0x00010200, 0x80010200, 0x102


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"id1\0" + parameter(0x001D, b"ok\0"),
        b"id1\0" + parameter(0x1400, b"") + parameter(0x0427, b"\0\0\0\2") + b"\0",
        b"id1\0" + parameter(0x0424, bytes(65_535)),
        b"id1",
        b"\0",
        b"",
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_of_any_form_takes_once(house, body):
    house.centre.statuses = [body]
    await house.send()
    await house.becomes("accepted")
    await house.send(key="second")
    await house.becomes("accepted")
    assert (len(house.centre.submitted), len(house.centre.bound)) == (2, 1)
    (part, _) = house.biller.rows(tables.message_part)
    assert part["network_id"] == ("id1" if body.strip(b"\0") else "")
    house.check(cost=10)


@pytest_twisted.ensureDeferred
async def test_only_an_unknown_request_gets_generic_nack(house):
    for command in (UNKNOWN_RESP, SUBMIT_SM_RESP, 0x80000000, ALERT_NOTIFICATION):
        house.centre.send(raw_pdu(command, 900, b"\0\1", status=0x45))
    house.centre.send(raw_pdu(UNKNOWN, 901, b"any"))
    house.centre.send(raw_pdu(0x3, 902))
    await until(lambda: len(house.centre.nacks) == 2, "both are answered")
    assert house.centre.nacks == [(901, consts.SMPP_ESME_RINVCMDID), (902, consts.SMPP_ESME_RINVCMDID)]
    await house.send()
    await house.becomes("accepted")
    assert len(house.centre.bound) == 1
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_generic_nack_without_error_takes_nothing(house):
    connection = house.centre.connections[-1]
    right = connection.submit

    def refuse(pdu):
        connection.submit = right
        house.centre.send(raw_pdu(0x80000000, pdu.sequence))

    connection.submit = refuse
    await house.send()
    await house.becomes("accepted")
    assert house.message()["attempts"] == 1
    house.check(cost=5)


@pytest.mark.parametrize("command", ["deliver_sm", "data_sm"])
@pytest_twisted.ensureDeferred
async def test_a_receipt_with_a_decimal_id_gives_back(house, command):
    house.centre.ids = ["1A2B3C4D"]
    await house.send()
    await house.becomes("accepted")
    text = b"id:439041101 sub:001 dlvrd:000 submit date:2611241200 done date:2611241201 stat:UNDELIV err:001 text:x"
    parameters = {"deliver_sm": b"", "data_sm": named("message_payload", text)}[command]
    more = {"short_message": text} if command == "deliver_sm" else {}
    for _ in range(2):
        facts = {"source_addr": "5599", "destination_addr": "2001", "esm_class": 4}
        assert await house.centre.deliver(command, parameters, **facts | more) == 0
    assert (await house.becomes("failed"))["note"] == "receipt: UNDELIV (id 439041101, err 001, done 2611241201)"
    house.check(cost=0)


@pytest_twisted.ensureDeferred
async def test_a_receipt_without_an_id_gives_nothing_back(house):
    house.centre.statuses = [b""]
    await house.send()
    await house.becomes("accepted")
    assert await house.centre.receipt("", "UNDELIV") == 0
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_an_unexpected_fault_asks_again_a_few_times(house, monkeypatch, nothing_goes_wrong_unseen):
    await house.send()
    await house.becomes("accepted")
    right = messages.apply_receipt
    monkeypatch.setattr(messages, "apply_receipt", lambda *_: 1 / 0)
    for _ in range(inbound.FAULTS_MAX - 1):
        assert await house.centre.receipt("m1", "UNDELIV") == consts.SMPP_ESME_RX_T_APPN
    (failure,) = nothing_goes_wrong_unseen
    assert failure.check(ZeroDivisionError)
    nothing_goes_wrong_unseen.clear()
    assert await house.centre.receipt("m1", "UNDELIV") == consts.SMPP_ESME_RX_P_APPN
    monkeypatch.setattr(messages, "apply_receipt", right)
    assert await house.centre.receipt("m1", "UNDELIV") == 0
    house.check(cost=0)


@pytest_twisted.ensureDeferred
async def test_a_number_without_room_is_refused(house):
    await house.send(to="1" * 21)
    assert "has no room" in (await house.becomes("refused"))["note"]
    assert house.centre.submitted == []
    house.check(cost=0)


@pytest_twisted.ensureDeferred
async def test_a_text_goes_in_the_smscs_alphabet(tmp_path):
    house = await House(tmp_path, default_alphabet="latin1").begin()
    try:
        await house.send("é@[")
        await house.becomes("accepted")
        await house.send("é €", key="second")
        await house.becomes("accepted")
        sent = [(each.data_coding, each.short_message) for each in house.centre.submitted]
        assert sent == [(0, b"\xe9@["), (8, "é €".encode("utf-16-be"))]
        house.check(cost=10)
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_no_pdu_reconnect(house):
    house.centre.connections[-1].transport.write(b"\xff" * 40)
    await until(lambda: len(house.centre.bound) == 2, "it is bound again")
    await house.send()
    await house.becomes("accepted")
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_a_silent_smsc_is_left_and_messages_resent(tmp_path):
    house = await House(tmp_path, answer_seconds=1).begin()
    try:
        house.centre.statuses = [MessageCentre.SILENT]
        await house.send()
        await house.becomes("accepted")
        assert len(house.centre.submitted) == 2
        assert len(house.centre.bound) == 2
        house.check(cost=5)
    finally:
        await house.end()


@pytest.mark.slow
@pytest.mark.parametrize("refusal", [consts.SMPP_ESME_RINVCMDID, consts.SMPP_ESME_RBINDFAIL, MessageCentre.CUT])
@pytest_twisted.ensureDeferred
async def test_a_pair_binds_where_no_transceiver_may(tmp_path, refusal):
    house = House(tmp_path)
    house.centre.refused = {"bind_transceiver": refusal}

    def is_a_new_pair(connections):
        commands = sorted(each.command for each in house.centre.connections)
        return house.centre.tried == connections + 2 and commands == ["bind_receiver", "bind_transmitter"]

    await house.begin()
    await until(lambda: is_a_new_pair(1), "both are bound")
    try:
        for key, connections in (("a", 3), ("b", 5)):
            await house.send(key=key)
            await house.becomes("accepted")
            assert await house.centre.receipt(f"m{connections // 2}", "UNDELIV") == 0
            assert house.message()["state"] == "failed"
            for each in list(house.centre.connections)[:1]:
                each.transport.abortConnection()
            await until(partial(is_a_new_pair, connections), "both are bound again")
        house.check(cost=0)
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_sessions_that_end_at_once_are_not_many(house):
    """Takes 1.5 s."""
    house.centre.unbinds = True
    house.centre.connections[-1].transport.abortConnection()
    await deferLater(reactor, 1.5)
    assert house.centre.tried < 10
    house.centre.unbinds = False
    await house.send()
    await house.becomes("accepted")
    house.check(cost=5)


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_tried_once_a_time(tmp_path):
    house = House(tmp_path)
    house.centre.refused = {"bind_transceiver": consts.SMPP_ESME_RINVPASWD}
    await house.begin()
    try:
        await until(lambda: house.centre.tried >= 2, "it is tried again")
        assert set(house.centre.binds) == {"bind_transceiver"}
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_a_message_waits_while_binding_is_refused(tmp_path):
    house = House(tmp_path)
    house.centre.lets_in = False
    await house.begin()
    try:
        await house.send()
        await deferLater(reactor, 2 * sms_outbox.POLL_SECONDS)
        assert house.message()["state"] == "queued"
        house.centre.lets_in = True
        await house.becomes("accepted")
        house.check(cost=5)
    finally:
        await house.end()


@pytest_twisted.ensureDeferred
async def test_an_unsent_message_expires_by_the_sweep(house):
    house.centre.statuses = [consts.SMPP_ESME_RTHROTTLED] * 99
    await house.send()
    await until(lambda: house.message()["attempts"], "it was tried")
    with house.biller.engine.begin() as tx:
        late = datetime.now(UTC) + timedelta(seconds=0.5)
        tx.execute(sa.update(tables.message).values(expires_at=late))
    await deferLater(reactor, 1)
    await until(lambda: house.message()["claimed_by"] is None, "nobody works it")
    await expire_messages(house.biller.service.store, datetime.now(UTC), house.biller.service.metrics)
    row = house.message()
    assert (row["state"], row["text"]) == ("expired", None)
    assert "attempts: message centre" in row["note"]
    house.check(cost=0)
