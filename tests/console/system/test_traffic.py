"""Messages, data sessions and differences of records on pages. Over real HTTP."""

from datetime import UTC, datetime

import pytest_twisted
import sqlalchemy as sa

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.schema import tables
from tests.support.http.api_service import Biller, biller_fixture
from tests.support.http.pages import Reader

NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="biller", secret="nothing")

NEW, SENT = "/ui/messages/new", "/ui/messages"

biller = biller_fixture()


@pytest_twisted.async_yield_fixture
async def sending(tmp_path):
    """Give a biller that sends messages by an Asterisk."""
    made = Biller(tmp_path, {}, "", sms=Sms(on_net_route="asterisk"), asterisk=(NOWHERE,))
    yield made
    await made.stop()


def session_row(tx):
    """Give a data session of ana's: 3 MiB, for nothing yet."""
    account = sa.select(tables.account.c.id).where(tables.account.c.subscriber_id == 2, tables.account.c.kind == "data")
    texts = dict.fromkeys(
        ("client", "nas_address", "framed_address", "station", "cause", "note", "disconnect", "disconnect_said"), ""
    )
    numbers = {"octets_in": 2**20, "octets_out": 2**21, "octets": 3 * 2**20, "octets_per_credit": 1, "charged": 0}
    now = datetime.now(UTC)
    return {
        **texts,
        **numbers,
        "reference": "data:1",
        "key": "1",
        "generation": 1,
        "nas": "hill",
        "session_id": "1",
        "username": "ana",
        "subscriber_id": 2,
        "account_id": tx.execute(account).scalar_one(),
        "started_at": now,
        "heard_at": now,
        "holds": 1,
        "state": "open",
        "disconnect_tries": 0,
    }


@pytest_twisted.ensureDeferred
async def test_one_form_sends_one_message(sending):
    clara = Reader(await sending.logged_in("clara"))
    form = await clara.look(f"{NEW}?username=bia")
    places = {(await clara.fill(form, SENT, text="The shop opens at nine.")).path for _ in range(2)}
    assert len(places) == 1
    (row,) = sending.rows(tables.message)
    place = f"/ui/messages/{row['id']}"
    assert places == {f"{place}?done=message_queued"}
    shown = await clara.look(place)
    assert "1003" in shown.text, "the number of bia"
    assert "opens at nine" not in shown.text
    listed = await clara.look(f"{SENT}?state=queued")
    assert listed.content.find("a", href=place)
    assert "No message was found." in (await clara.look(f"{SENT}?state=failed")).text
    assert "No message was found." in (await clara.look(f"{SENT}?username=ana")).text


@pytest_twisted.ensureDeferred
async def test_wrong_messages_and_filters_are_refused(biller):
    clara, ana = [Reader(await biller.logged_in(name)) for name in ("clara", "ana")]
    before = biller.everything()
    form = await clara.look(NEW)
    refused = await clara.fill(form, SENT, username="bia", text="")
    assert refused.error_of("text")
    assert refused.fields(SENT)["username"] == "bia"
    unknown = await clara.fill(form, SENT, username="nobody", text="hello")
    assert unknown.status == 404
    assert "hello" in unknown.fields(SENT)["text"]
    assert (await clara.look(f"{SENT}?state=lost")).error_of("state")
    assert (await clara.look("/ui/messages/999999")).status == 404
    assert (await ana.look(NEW)).status == 403
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_data_sessions_are_shown_to_their_subscriber(sending):
    with sending.engine.begin() as tx:
        row = session_row(tx)
        made = tx.execute(sa.insert(tables.data_session).values(row).returning(tables.data_session.c.id)).scalar_one()
    clara = Reader(await sending.logged_in("clara"))
    listed = await clara.look("/ui/data-sessions?username=ana&state=open")
    assert listed.content.find("a", href=f"/ui/data-sessions/{made}")
    assert "No data session was found." in (await clara.look("/ui/data-sessions?state=closed")).text
    assert "2 MiB" in (await clara.look(f"/ui/data-sessions/{made}")).text
    own = await Reader(await sending.logged_in("ana")).look("/ui/me/data")
    assert [each.get_text() for each in own.content.select("tbody .amount")] == ["3", "0"]
    assert "No data session was found." in (await Reader(await sending.logged_in("bia")).look("/ui/me/data")).text
    assert (await clara.look("/ui/data-sessions/999999")).status == 404


@pytest_twisted.ensureDeferred
async def test_differences_of_records_are_listed(biller):
    now = datetime.now(UTC)
    texts = dict.fromkeys(("source", "channel", "context", "from_number", "to_number"), "x")
    row = texts | {"server": "pbx1", "uniqueid": "1.1", "kind": "missing", "state": "refused", "refusal": "too old"}
    with biller.engine.begin() as tx:
        tx.execute(sa.insert(tables.cdr_difference).values(row | {"started_at": now, "found_at": now}))
    clara = Reader(await biller.logged_in("clara"))
    assert "not in the ledger" in (await clara.look("/ui/cdr-differences?kind=missing&state=refused")).text
    assert "No difference was found." in (await clara.look("/ui/cdr-differences?kind=open")).text
    biller.empty(tables.cdr_difference)
