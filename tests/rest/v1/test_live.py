"""Calls in progress over the API: the list, hanging up, and the stream of events."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice import call_orders
from celcombiller.database.transaction import transact
from celcombiller.http.transport import event_stream
from celcombiller.rest.v1 import live
from tests.core.ledger.test_book import TERMS, credit, ended, initiate
from tests.rest.test_narrow_tokens import with_token
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header
from tests.support.http.event_client import listen

biller = biller_fixture()
slow_biller = biller_fixture(send_seconds=1, unsent_kib_max=4)
small_biller = biller_fixture(event_streams_max=2, requests_max=1)
LIVE = "/api/v1/live"
WHY = {"reason": "fraud"}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Look for events and at logins more often than operators need."""
    monkeypatch.setattr(event_stream, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(live, "ADMIT_SECONDS", 0.02)
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(live, "WAIT_SECONDS", 0.3)


def do(biller, *requests):
    now = datetime.now(UTC)
    answers = transact(biller.engine, lambda tx: process_batch(tx, TERMS, requests, now))
    assert not [each for each in answers if isinstance(each, Exception)], answers


def begin(biller, uniqueid="1.0", caller="1002"):
    """Begin a call of ana (1002) or bia (1003) to the other."""
    username = {"1002": "ana", "1003": "bia"}[caller]
    called = {"1002": "1003", "1003": "1002"}[caller]
    do(biller, credit(100, f"for {uniqueid}", username), initiate(uniqueid, caller, called))


def answer(biller, uniqueid="1.0"):
    do(biller, CallAnswered("pbx1", uniqueid, datetime.now(UTC) - timedelta(seconds=5)))


def end_all(biller):
    with biller.engine.begin() as tx:
        uniqueids = tx.execute(sa.select(tables.call.c.uniqueid).where(tables.call.c.state == "open")).scalars().all()
    do(biller, *(ended(each, answered=False) for each in uniqueids))


async def carry_out(biller, result=call_orders.DONE):
    """Do what a biller with a link does with the next order."""
    while True:
        await deferLater(reactor, 0.02)
        for each in transact(biller.engine, lambda tx: call_orders.list_waiting(tx, limit=5)):
            return transact(biller.engine, lambda tx, each=each: call_orders.finish(tx, each.id, result, each.made_at))


# -- the list --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_live_calls_are_listed_to_staff(biller):
    begin(biller)
    begin(biller, "2.0", "1003")
    answer(biller)
    clara = await biller.logged_in("clara")
    first, second = (await clara.get(LIVE)).body["items"]
    assert (first["id"], first["username"], first["number"], first["to_number"]) == (1, "ana", "1002", "1003")
    assert (first["callee"], first["granted_seconds"], first["held"]) == ("bia", 100, 100)
    assert 5 <= first["used_seconds"] == first["cost"] <= 15
    assert (second["username"], second["answered_at"], second["cost"], second["order"]) == ("bia", None, 0, None)
    page = (await clara.get(f"{LIVE}?limit=1")).body
    assert [each["id"] for each in page["items"]] == [1]
    assert [each["id"] for each in (await clara.get(f"{LIVE}?cursor={page['next']}")).body["items"]] == [2]
    assert [each["id"] for each in (await clara.get(f"{LIVE}?username=bia")).body["items"]] == [2]
    assert (await clara.get(f"{LIVE}?server=pbx2")).body == {"items": [], "next": None}
    assert (await clara.get(f"{LIVE}/2")).body["username"] == "bia"
    refused(await clara.get(f"{LIVE}/3"), 404, "UNKNOWN_CALL")
    do(biller, ended())
    refused(await clara.get(f"{LIVE}/1"), 404, "UNKNOWN_CALL")


@pytest_twisted.ensureDeferred
async def test_subscribers_see_their_own_calls_only(biller):
    begin(biller)
    begin(biller, "2.0", "1003")
    ana = await biller.logged_in("ana")
    assert [each["id"] for each in (await ana.get(LIVE)).body["items"]] == [1]
    refused(await ana.get(f"{LIVE}?username=bia"), 404, "NOT_FOUND")
    unknown = refused(await ana.get(f"{LIVE}/3"), 404, "UNKNOWN_CALL")
    others = refused(await ana.get(f"{LIVE}/2"), 404, "UNKNOWN_CALL")
    assert str(unknown).replace("3", "2") == str(others)
    transact(
        biller.engine,
        lambda tx: call_orders.add(
            tx, reference="call:pbx1:1.0:0", kind="hangup", reason="secret", actor="clara", now=datetime.now(UTC)
        ),
    )
    order = (await ana.get(f"{LIVE}/1")).body["order"]
    assert (order["kind"], order["actor"], order["reason"]) == ("hangup", "", "")


# -- hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["query", "body"])
@pytest_twisted.ensureDeferred
async def test_hanging_up_waits_for_the_biller(biller, how):
    begin(biller)
    clara = await biller.logged_in("clara")
    done = Deferred.fromCoroutine(carry_out(biller))
    answered = await (clara.delete(f"{LIVE}/1?reason=fraud") if how == "query" else clara.delete(f"{LIVE}/1", body=WHY))
    assert await done
    assert (answered.code, answered.body["result"], answered.body["reason"]) == (200, "done", "fraud")


@pytest_twisted.ensureDeferred
async def test_an_order_that_waits_is_202(biller):
    begin(biller)
    clara = await biller.logged_in("clara")
    answered = await clara.delete(f"{LIVE}/1?reason=fraud")
    assert answered.code == 202, answered.bytes
    assert (answered.body["kind"], answered.body["reason"], answered.body["actor"]) == ("hangup", "fraud", "clara")
    assert (answered.body["done_at"], answered.body["result"]) == (None, "")
    again = await clara.delete(f"{LIVE}/1?reason=again")
    assert again.body == answered.body, "one order waits already"
    (entry,) = [each for each in trail(biller) if each.action == "hangup"]
    assert (entry.actor, entry.address, entry.subject) == ("clara", "127.0.0.1", "call:1")
    assert '"reason":"fraud"' in entry.after


def trail(biller):
    return transact(biller.engine, lambda tx: audit_trail.entries(tx, limit=50))


@pytest_twisted.ensureDeferred
async def test_hanging_up_needs_a_reason_and_a_call(biller):
    begin(biller)
    admin = await biller.logged_in("admin")
    assert refused(await admin.delete(f"{LIVE}/1"), 422, "INVALID")["fields"].keys() == {"reason"}
    refused(await admin.delete(f"{LIVE}/1?reason="), 422, "INVALID")
    refused(await admin.delete(f"{LIVE}/1?reason=%20"), 422, "INVALID")
    refused(await admin.delete(f"{LIVE}/1", body={"reason": "a\nb"}), 422, "INVALID")
    refused(await admin.delete(f"{LIVE}/9?reason=x"), 404, "UNKNOWN_CALL")
    do(biller, ended(answered=False))
    refused(await admin.delete(f"{LIVE}/1?reason=x"), 404, "UNKNOWN_CALL")
    assert transact(biller.engine, lambda tx: call_orders.list_waiting(tx, limit=5)) == []


@pytest_twisted.ensureDeferred
async def test_subscribers_hang_up_their_own_calls_only(biller):
    begin(biller)
    begin(biller, "2.0", "1003")
    ana = await biller.logged_in("ana")
    refused(await ana.delete(f"{LIVE}/2?reason=x"), 404, "UNKNOWN_CALL")
    reading = await with_token(biller, "ana", "read")
    refused(await reading.delete(f"{LIVE}/1?reason=x"), 403, "FORBIDDEN")
    assert (await ana.delete(f"{LIVE}/1?reason=x")).code == 202
    (order,) = transact(biller.engine, lambda tx: call_orders.list_waiting(tx, limit=5))
    assert (order.reference, order.actor) == ("call:pbx1:1.0:0", "ana")


@pytest_twisted.ensureDeferred
async def test_narrow_staff_hangs_up_no_staff(biller):
    do(biller, credit(100, "a", "admin"), initiate("1.0", "1001", "1002"))
    begin(biller, "2.0", "1003")
    for client in (await biller.logged_in("clara"), await with_token(biller, "admin", "write")):
        if client.cookie:
            refused(await client.delete(f"{LIVE}/1?reason=x"), 403, "FORBIDDEN")
        assert (await client.delete(f"{LIVE}/2?reason=x")).code == 202


# -- events ----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_stream_tells_begin_answer_and_end(biller):
    begin(biller)
    stream = await listen(await biller.logged_in("clara"))
    snapshot = await stream.next()
    assert (snapshot.kind, snapshot.data["more"]) == ("snapshot", False)
    assert [each["username"] for each in snapshot.data["items"]] == ["ana"]
    begin(biller, "2.0", "1003")
    begun = await stream.next()
    assert (begun.kind, begun.data["id"], begun.data["username"], begun.data["callee"]) == ("begin", 2, "bia", "ana")
    answer(biller, "2.0")
    answered = await stream.next()
    assert (answered.kind, answered.data["id"], answered.data["granted_seconds"]) == ("answer", 2, 100)
    assert answered.data["granted_until"] > answered.data["answered_at"]
    grant(biller, 2, 60)
    granted = await stream.next()
    assert (granted.kind, granted.data["granted_seconds"]) == ("grant", 60)
    grant(biller, 2, 100)
    await stream.next()
    do(biller, ended("2.0", talk_ms=7000))
    over = await stream.next()
    assert (over.kind, over.data["state"], over.data["cost"], over.data["talk_ms"]) == ("end", "settled", 7, 7000)
    assert all(each.id for each in (snapshot, begun, answered, granted, over))
    assert b"text/event-stream" in stream.headers
    await stream.close()
    end_all(biller)


def grant(biller, call_id, seconds):
    with biller.engine.begin() as tx:
        changed = sa.update(tables.call).where(tables.call.c.id == call_id).values(granted_seconds=seconds)
        tx.execute(changed)


@pytest_twisted.ensureDeferred
async def test_a_call_between_two_looks_is_told(biller):
    stream = await listen(await biller.logged_in("clara"))
    await stream.next()
    do(
        biller,
        *(credit(100, "a", "bia"), initiate("4.0", "1003", "1002")),
        CallAnswered("pbx1", "4.0", datetime.now(UTC)),
    )
    assert [(await stream.next()).kind for _ in range(2)] == ["begin", "answer"]
    do(biller, ended("4.0", talk_ms=0))
    assert (await stream.next()).kind == "end"
    do(biller, credit(100, "r", "ana"), initiate("3.0", "1002", "1003"), ended("3.0", answered=False))
    over = await stream.next()
    assert (over.kind, over.data["username"], over.data["state"], over.data["cost"]) == ("end", "ana", "released", 0)
    await stream.close()


@pytest_twisted.ensureDeferred
async def test_a_client_that_comes_back_misses_nothing(biller):
    clara = await biller.logged_in("clara")
    stream = await listen(clara)
    last = (await stream.next()).id
    begin(biller)
    begun = await stream.next()
    await stream.close()
    answer(biller)
    again = await listen(clara, Last_Event_ID=begun.id)
    assert (await again.next()).kind == "answer"
    await again.close()
    both = await listen(clara, Last_Event_ID=last)
    assert [(await both.next()).kind for _ in range(2)] == ["begin", "answer"]
    await both.close()
    for odd in ("", "x", "x-1", "1-1", last + "9" * 30, last.replace("-", "-9")):
        other = await listen(clara, Last_Event_ID=odd)
        assert (await other.next()).kind == "snapshot", odd
        await other.close()


@pytest_twisted.ensureDeferred
async def test_what_is_no_longer_kept_is_told_whole(biller, monkeypatch):
    monkeypatch.setattr(event_stream, "EVENTS_KEPT", 3)
    clara = await biller.logged_in("clara")
    stream = await listen(clara)
    last = (await stream.next()).id
    for number in range(1, 5):
        begin(biller, f"{number}.0")
        await stream.next()
    again = await listen(clara, Last_Event_ID=last)
    snapshot = await again.next()
    assert (snapshot.kind, len(snapshot.data["items"])) == ("snapshot", 4)
    await again.close()
    await stream.close()


@pytest_twisted.ensureDeferred
async def test_a_long_snapshot_comes_in_parts(biller, monkeypatch):
    monkeypatch.setattr(live, "SNAPSHOT_CALLS", 2)
    for number in range(1, 6):
        begin(biller, f"{number}.0")
    stream = await listen(await biller.logged_in("clara"))
    parts = [await stream.next() for _ in range(3)]
    assert [(len(each.data["items"]), each.data["more"], bool(each.id)) for each in parts] == [
        (2, True, False),
        (2, True, False),
        (1, False, True),
    ]
    await stream.close()


@pytest_twisted.ensureDeferred
async def test_a_stream_shows_subscribers_their_own_calls(biller):
    streams = [
        await listen(await biller.logged_in("ana")),
        await listen(await biller.logged_in("clara"), "/api/v1/live/events?username=ana"),
    ]
    for stream in streams:
        await stream.next()
    begin(biller, "1.0", "1003")
    begin(biller, "2.0", "1002")
    for stream in streams:
        assert (await stream.next()).data["username"] == "ana"
    do(biller, ended("1.0", answered=False), ended("2.0", answered=False))
    for stream in streams:
        over = await stream.next()
        assert (over.kind, over.data["username"]) == ("end", "ana")
        assert not stream.events
        await stream.close()
    other = await listen(await biller.logged_in("ana"), "/api/v1/live/events?username=bia")
    assert await other.status() == 404
    await other.until(lambda each: each.is_over)


@pytest_twisted.ensureDeferred
async def test_a_lost_right_ends_the_stream(biller):
    clara = await biller.logged_in("clara")
    token = await with_token(biller, "clara", "read")
    streams = [await listen(clara), await listen(token)]
    for stream in streams:
        await stream.next()
    admin = await biller.logged_in("admin")
    assert (await admin.delete("/api/v1/tokens/1")).code == 204
    await streams[1].until(lambda each: each.is_over)
    assert [each.data["code"] for each in streams[1].events] == ["NOT_AUTHENTICATED"]
    transact(biller.engine, lambda tx: subscriber_records.enable(tx, "clara", datetime.now(UTC), enabled=False))
    await streams[0].until(lambda each: each.is_over)
    assert [each.kind for each in streams[0].events] == ["refused"]
    begin(biller)
    end_all(biller)


@pytest_twisted.ensureDeferred
async def test_silence_is_broken_by_comments(biller, monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    stream = await listen(await biller.logged_in("clara"))
    await stream.until(lambda each: len(each.comments) >= 3)
    await stream.close()


@pytest_twisted.ensureDeferred
async def test_streams_are_limited_and_take_no_request(small_biller):
    clara, admin = await small_biller.logged_in("clara"), await small_biller.logged_in("admin")
    first = await listen(clara)
    await first.next()
    second = await listen(admin)
    await second.next()
    more = await listen(clara)
    assert await more.status() == 503
    await more.until(lambda each: each.is_over)
    assert (await clara.get(LIVE)).code == 200
    await first.close()
    await second.close()
    again = await listen(clara)
    await again.next()
    await again.close()


@pytest_twisted.ensureDeferred
async def test_all_streams_share_one_look(biller, monkeypatch):
    looks = []
    look = live.live_events.look
    monkeypatch.setattr(live.live_events, "look", lambda *each: (looks.append(1), look(*each))[1])
    names = ("clara", "admin", "ana", "bia")
    streams = [await listen(await biller.logged_in(each)) for each in names]
    for stream in streams:
        await stream.next()
    before = len(looks)
    begin(biller)
    begun = [await stream.next() for stream in streams[:3]]
    assert len({each.id for each in begun}) == 1
    assert len(looks) - before <= 50
    for stream in streams:
        await stream.close()


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_nothing_is_cut(slow_biller, monkeypatch):
    """Takes 1.5 s: the shortest time that a client may take is a second."""
    view = live.live_events.LiveGrantView(id=1, answered_at=None, granted_seconds=1, granted_until=None)
    event = live.live_events.LiveEvent("grant" * 2000, 2, "pbx1", view, view)
    monkeypatch.setattr(live.live_events, "look", lambda *_: (object(), [event] * 500))
    stream = await listen(await slow_biller.logged_in("clara"))
    await stream.next()
    stream.transport.pauseProducing()
    limited = slow_biller.service.metrics.rest._limited["send_seconds"]
    until = reactor.seconds() + 10
    while not limited._value.get() and reactor.seconds() < until:
        await deferLater(reactor, 0.05)
    assert limited._value.get() == 1
    stream.transport.resumeProducing()
    await stream.until(lambda each: each.is_over)


@pytest_twisted.ensureDeferred
async def test_head_tells_the_type_alone(biller):
    answered = await (await biller.logged_in("clara")).ask("HEAD", f"{LIVE}/events")
    assert (answered.code, header(answered, "content-type")) == (200, "text/event-stream")
    refused(await biller.client().get(f"{LIVE}/events"), 401, "NOT_AUTHENTICATED")
