"""Messages and sessions of data at the terminal: who asks sees what there is, newest first, and nothing is changed."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.charging import messages
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.data.accounting_reports import AcctStatusType, Conditions, Usage
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.sms import message_queries, outbox_queue
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

NOW = datetime.now(UTC).replace(microsecond=0)
WAYS = MessagePolicy(on_net_route=Route.ASTERISK, off_net_route=Route.SMPP, on_net_price=3, sender="Rede")
TERMS = ChargingPolicy(tariff=Tariff(()), messages=WAYS)


@pytest.fixture
def database(ready, here):
    ready("user", "add", "bia", "--clid", "2002", "--imsi", "724000000002002", "--name", "Bia")
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=1)
    for kind in Kind:
        request = Credit("ana", kind, 100, "web", f"given {kind}")
        transact(engine, lambda tx, request=request: credit(tx, request, Actor("admin", "", manages=ALL_LEVELS), NOW))
    yield engine
    assert ready("audit")[0] == 0
    engine.dispose()


def send(engine, reference, payer="ana", to="2002", at=NOW):
    facts = {"to_number": to, "text": "the secret", "origin": MessageOrigin.API, "payer": payer, "now": at}
    return transact(engine, lambda tx: messages.submit(tx, WAYS, reference=reference, **facts)).message


def put_off(engine, why):
    def work(tx):
        claimed = outbox_queue.claim(tx, Route.ASTERISK, "me", NOW, limit=1, lease=timedelta(minutes=1))
        due = [each.message.reference for each in claimed]
        outbox_queue.reschedule(tx, "me", due, why, NOW, retry_seconds_max=1)

    transact(engine, work)


def listed(ready, *words):
    status, out, _ = ready("messages", "list", *words, "--json")
    assert status == 0
    return [each["id"] for each in json.loads(out)]


def test_messages_are_listed_newest_first_with_filters(database, ready):
    for number in range(3):
        send(database, f"m{number}", at=NOW - timedelta(hours=3 - number))
    send(database, "free", payer=None)
    told = MessageOutcome(messages.reference_of("m1"), MessageState.ACCEPTED)
    transact(database, lambda tx: messages.record_outcome(tx, told, NOW))
    assert listed(ready) == [4, 3, 2, 1]
    assert listed(ready, "--limit", 2) == [4, 3]
    assert listed(ready, "--user", "ana") == listed(ready, "--user", "+2001") == [3, 2, 1]
    assert listed(ready, "--user", "bia") == []
    assert listed(ready, "--state", "accepted", "--user", "ana") == [2]
    since, until = ((NOW - timedelta(hours=hours)).isoformat() for hours in (2, 1))
    assert listed(ready, "--since", since, "--until", until) == [2]
    there = (NOW - timedelta(hours=1)).astimezone().replace(tzinfo=None).isoformat()
    assert listed(ready, "--since", there) == [4, 3], "a time without a zone is this machine's"


def test_a_message_is_shown_without_what_it_says(database, ready):
    made = send(database, "m")
    status, out, _ = ready("messages", "show", 1)
    said = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
    assert (status, said["reference"], said["username"], said["cost"]) == (0, made.reference, "ana", "3")
    shown = json.loads(ready("messages", "show", 1, "--json")[1])
    assert (shown["to_number"], shown["state"], shown["attempts"]) == ("2002", "queued", 0)
    for words in (("show", 1), ("show", 1, "--json"), ("list",), ("list", "--json"), ("queue", "--json")):
        assert "secret" not in ready("messages", *words)[1]


def test_the_queue_shows_waiting_and_failed_messages(database, ready, here):
    assert ready("messages", "queue")[:2] == (0, "No message waits.\n")
    send(database, "m1", at=NOW - timedelta(minutes=5))
    send(database, "m2", to="9999")
    status, out, _ = ready("messages", "queue")
    assert (status, len(out.splitlines()), "expire" in out) == (0, 2, True), "no way is set here"
    (here / "celcombiller.toml").write_text(
        '[[asterisk]]\nname="a"\nhost="127.0.0.1"\nusername="x"\nsecret="x"\n[sms]\non_net_route="asterisk"\n'
    )
    put_off(database, "no phone there")
    status, out, _ = ready("messages", "queue")
    on_net, why, off_net = out.splitlines()
    assert (status, why) == (1, "  no phone there (1 message)")
    assert (on_net.startswith("asterisk: 1 waiting since "), on_net.endswith(", 1 of them tried without success")) == (
        True,
    ) * 2
    assert (off_net.startswith("smpp: 1 waiting"), "expire" in off_net) == (True, True)
    first, second = json.loads(ready("messages", "queue", "--json")[1])
    assert (first["failing"], first["troubles"]) == (1, [["no phone there", 1]])
    assert (second["route"], second["failing"], second["sending"]) == ("smpp", 0, 0)


def test_a_message_being_sent_is_counted(database):
    send(database, "m")
    take = {"limit": 1, "lease": timedelta(minutes=1)}
    transact(database, lambda tx: outbox_queue.claim(tx, Route.ASTERISK, "me", NOW, **take))
    for after, sending in ((0, 1), (60, 0)):
        at = NOW + timedelta(seconds=after)
        (found,) = transact(database, lambda tx, at=at: message_queries.list_queues(tx, at, troubles_max=1))
        assert found.sending == sending


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("messages", "show", 9), 3, "no message 9"),
        (("messages", "show", 2**60), 2, "must be from 1"),
        (("messages", "list", "--user", "nobody"), 3, "nobody"),
        (("messages", "list", "--state", "lost"), 2, "invalid choice"),
        (("messages", "list", "--since", "yesterday"), 2, "such as 2026-11-05"),
        (("messages", "list", "--since", "0001-01-01"), 2, "such as 2026-11-05"),
        (("messages", "list", "--limit", 0), 2, "from 1"),
        (("messages",), 2, "ACTION"),
        (("data-sessions", "--user", "nobody"), 3, "nobody"),
        (("data-sessions", "--limit", "all"), 2, "limit"),
    ],
)
def test_what_cannot_be_looked_for_is_one_line(ready, words, status, says):
    done = ready(*words)
    assert (done[0], says in done[2]) == (status, True), done


def tell(engine, which, session_id, username, octets):
    identities = {"identities": (username,), "conditions": Conditions(quota_octets=50)}
    usage = Usage("hotspot/nas1", session_id, username, which, NOW, octets, 0, **identities)
    transact(engine, lambda tx: process_batch(tx, TERMS, [usage], NOW))


def sessions(ready, *words):
    return [each["session_id"] for each in json.loads(ready("data-sessions", *words, "--json")[1])]


def test_open_data_sessions_are_listed_ended_on_request(database, ready):
    for session_id, username in (("A", "ana"), ("B", "bia"), ("C", "ana")):
        tell(database, AcctStatusType.START, session_id, username, 0)
    tell(database, AcctStatusType.STOP, "A", "ana", 30)
    assert sessions(ready) == ["C", "B"]
    assert sessions(ready, "--all") == ["C", "B", "A"]
    assert sessions(ready, "--all", "--limit", 1) == ["C"]
    assert sessions(ready, "--user", "ana") == sessions(ready, "--user", "2001") == ["C"]
    assert sessions(ready, "--user", "ana", "--all") == ["C", "A"]
    header, _, _, over = ready("data-sessions", "--all")[1].splitlines()
    assert header.split()[:3] == ["started_at", "username", "nas"]
    assert over.split()[3:8] == ["hotspot/nas1", "A", "closed", "30", "30"]
