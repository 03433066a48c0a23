"""Who pays for a call that was forwarded, transferred, or dialled from within another one."""

import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.asterisk.agi.simulator import Channel
from celcombiller.asterisk.scripts.call_origin import CallOrigin, paid_text, read_origin
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import ask, credit, initiate, proved, voice

PAID = "1001:1002:pbx1-1.0"
OWN = "pbx1-1.0"
BEA = "PJSIP/1002-0000000a"


@pytest.mark.parametrize(
    ("uniqueid", "words", "origin"),
    [
        ("pbx1-9.0", ("", "", "", "", ""), CallOrigin()),
        (OWN, (PAID, "", "", "", ""), CallOrigin()),
        (OWN, (PAID, "", "", "", BEA), CallOrigin(BEA, "1002", is_moved=True)),
        ("pbx1-9.0", (PAID, "", BEA, "", ""), CallOrigin(BEA, "1002")),
        ("pbx1-9.0", (PAID, BEA, "", "", ""), CallOrigin(BEA, "1002")),
        (
            "pbx1-9.0",
            (PAID, "", "", "", "PJSIP/1001-0000000b"),
            CallOrigin("PJSIP/1001-0000000b", "1001", is_left=True),
        ),
        ("pbx1-9.0", (PAID, "", "", BEA, ""), CallOrigin()),
        ("pbx1-9.0", (PAID, "", "", "", ""), CallOrigin(within=OWN)),
    ],
)
def test_a_channel_says_how_it_was_moved(uniqueid, words, origin):
    assert read_origin(uniqueid, *words) == origin


@pytest.mark.parametrize(
    ("mover", "name"),
    [
        ("PJSIP/1002-0000000a", "1002"),
        ("PJSIP/IMSI724000000001002-0000000a", "IMSI724000000001002"),
        ("PJSIP/ana-maria-0000000a", "ana-maria"),
        ("Local/1002@phones-0000000a;1", "1002"),
        ("nothing", ""),
    ],
)
def test_who_moved_a_call_is_named_by_channel(mover, name):
    assert CallOrigin(mover, "1002").payer("code", "1001") == (name, "1002")


@given(st.text(), st.text(), st.text())
def test_what_is_inherited_is_read_again_or_empty(payer, callee, uniqueid):
    text = paid_text(payer, callee, uniqueid)
    assert "," not in text
    if text:
        assert read_origin("9.0", text, BEA, "", "", "").mover_number == text.split(":")[1]


@given(st.lists(st.text() | st.sampled_from([PAID, BEA]), min_size=6, max_size=6))
def test_no_words_of_a_channel_are_a_fault(words):
    read_origin(*words).payer("", "")


@pytest_twisted.ensureDeferred
async def test_the_forwarder_pays_and_not_the_caller(house):
    channel = Channel("1001", "1003", talk_ms=3000)
    channel.variables |= {"FORWARDERNAME": BEA, "CELCOMBILLER_PAID": PAID}
    ask(house.engine, credit(20, "bea", username="u1002"))
    await house.play(channel, "caller", "reducer")
    assert [row.from_number for row in calls(house)] == ["1002"]
    assert voice(house.engine).posted == 60
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_a_forwarder_without_credit_is_refused(house):
    channel = Channel("1001", "1003", talk_ms=3000)
    channel.variables |= {"FORWARDERNAME": BEA, "CELCOMBILLER_PAID": PAID}
    await house.play(channel, "caller", "reducer")
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("NO_CREDIT", "")


@pytest_twisted.ensureDeferred
async def test_a_transferred_caller_is_sent_on_by_local(house):
    channel = Channel("1001", "1003", uniqueid=OWN)
    channel.variables |= {"BLINDTRANSFER": BEA, "CELCOMBILLER_PAID": PAID}
    await house.play(channel, "caller")
    assert channel.dialled == "Local/1003@simulated/n,40,g"
    assert channel.variables["_CELCOMBILLER_MOVED_BY"] == BEA
    assert (channel.variables["DIALSTATUS"], channel.variables["ANSWEREDTIME_MS"]) == ("ANSWER", "")
    assert calls(house) == []


@pytest.mark.parametrize("number", ["1003/n&Local", "1003@other", "abc"])
@pytest_twisted.ensureDeferred
async def test_a_transfer_to_no_number_goes_nowhere(house, number):
    channel = Channel("1001", number, uniqueid=OWN)
    channel.variables |= {"BLINDTRANSFER": BEA, "CELCOMBILLER_PAID": PAID}
    await house.play(channel, "caller")
    assert (channel.variables["CELCOMBILLER_RESULT"], channel.dialled) == ("BAD_NUMBER", "")


@pytest.mark.parametrize(("is_open", "recorded"), [(True, 1), (False, 2)])
@pytest_twisted.ensureDeferred
async def test_a_leg_within_a_paid_call_is_free(house, is_open, recorded):
    outer = Channel("1001", "1002", talk_ms=3000)
    if is_open:
        ask(house.engine, initiate(uniqueid=outer.uniqueid, server="127.0.0.1"))
    else:
        await house.play(outer, "caller", "reducer")
    inner = Channel("1001", "1003", talk_ms=3000)
    inner.variables["CELCOMBILLER_PAID"] = f"1001:1002:{outer.uniqueid}"
    await house.play(inner, "caller", "reducer")
    assert inner.dialled.startswith("PJSIP/1003,")
    assert len(calls(house)) == recorded
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_another_payer_within_a_paid_call_pays(house):
    ask(house.engine, initiate(uniqueid=OWN, server="pbx1"))
    ask(house.engine, credit(20, "bea", username="u1002"))
    inner = Channel("1001", "1003", talk_ms=3000, account_code="1002")
    inner.variables["CELCOMBILLER_PAID"] = PAID
    await house.play(inner, "caller", "reducer")
    assert sorted(row.from_number for row in calls(house)) == ["1001", "1002"]


@pytest_twisted.ensureDeferred
async def test_a_billed_local_channel_is_not_optimized_away(house):
    class Local(Channel):
        name = "Local/1002@phones-00000001;2"

    assert (await house.play(Local("1001", "1002"), "caller")).variables["VOLUME(TX)"] == "0"
    assert "VOLUME(TX)" not in (await house.call()).variables


def calls(house):
    with house.engine.begin() as tx:
        return list(tx.execute(sa.select(tables.call)))
