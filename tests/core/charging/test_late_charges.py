"""Talk that is charged although its authorization came late, or its hold had ended before."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import UnknownCall
from celcombiller.core.model.calls import CallGrant, CallState, Witness
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice.authorization import make_authorization
from celcombiller.core.voice.evidence import talk_ms
from tests.core.ledger.test_book import NOW, ask, credit, ended, initiate, proved, voice


@pytest.fixture
def funded(engine):
    ask(engine, credit(60))
    yield engine
    proved(engine)


def let_go(request, talk=9900, **facts):
    return ended(talk_ms=talk, unauthorized_request=request, **facts)


@pytest.mark.parametrize("late", ["never", "granted", "granted for less", "refused", "released", "expired", "after"])
def test_an_allowed_call_is_charged_whatever_its_grant(funded, late):
    request = initiate()
    if late == "refused":
        ask(funded, credit(-60, "gone"))
    elif late == "granted for less":
        ask(funded, credit(-57, "gone"))
    if late not in ("never", "after"):
        ask(funded, request)
    if late == "released":
        ask(funded, ended(answered=False, leg=0))
    elif late == "expired":
        ask(funded, ended(answered=False, witness=Witness.SWEEP, leg=0, expired=True))
    before = voice(funded).posted
    (settled,) = ask(funded, let_go(request))
    assert (settled.first, settled.call.state, settled.call.cost) == (True, CallState.SETTLED, 10)
    assert (voice(funded).posted, voice(funded).held) == (before - 10, 0)
    again, reducer = ask(funded, let_go(request), ended(talk_ms=9900, witness=Witness.REDUCER))
    assert (again.first, reducer.first, again.difference_ms, reducer.difference_ms) == (False, False, 0, 0)
    if late == "after":
        assert isinstance(ask(funded, request)[0], UnknownCall)
    assert (voice(funded).posted, voice(funded).held) == (before - 10, 0)


@pytest.mark.parametrize(("talk", "cost"), [(7000, 7), (20_003, 20), (25_000, 25)])
@pytest.mark.parametrize("is_late_grant", [False, True])
def test_a_let_go_call_pays_to_its_limit(funded, talk, cost, is_late_grant):
    """Asterisk cuts some milliseconds late; the grant that came late was of a shorter slice."""
    request = initiate(slice_seconds=10)
    if is_late_grant:
        ask(funded, request, now=request.previous.at)
    (settled,) = ask(funded, let_go(request, talk, limit_seconds=20))
    assert (settled.call.cost, settled.call.granted_seconds) == (cost, 20)
    proved(funded)


def test_a_late_charge_begins_when_the_call_did(funded):
    asked = initiate()
    for earlier, began in ((timedelta(hours=2), NOW), (timedelta(days=2), NOW + timedelta(days=2))):
        uniqueid = str(earlier.days)
        each = replace(asked, uniqueid=uniqueid)
        (settled,) = ask(funded, ended(uniqueid, talk_ms=1000, unauthorized_request=each), now=NOW + earlier)
        assert settled.call.started_at == began


@pytest.mark.parametrize("ahead", [timedelta(minutes=32), timedelta(), timedelta(minutes=-32)])
def test_a_late_charge_begins_by_our_clock(funded, ahead):
    """Another biller let it go: only the end of the channel tells of it, by the clock of Asterisk."""
    report = structs.replace(ended(talk_ms=1000).ending, at=NOW + ahead, ahead=ahead)
    asked = replace(initiate(), previous=report)
    (settled,) = ask(funded, ended(talk_ms=1000, unauthorized_request=asked), now=NOW + timedelta(hours=1))
    assert settled.call.started_at == NOW


def test_a_call_let_go_pays_though_disabled_since(funded):
    with funded.begin() as tx:
        subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    (settled,) = ask(funded, let_go(initiate()))
    assert settled.call.cost == 10


def test_a_call_let_go_after_another_is_charged(funded):
    """One channel: a call that the ledger authorized, and then one that it did not."""
    first, second = initiate(), initiate(authorization="second")
    ask(funded, first)
    ask(funded, ended(talk_ms=2000, leg=0))
    (settled,) = ask(funded, let_go(second))
    assert (settled.first, settled.call.leg, settled.call.cost) == (True, 1, 10)
    assert voice(funded).posted == 48


def test_an_end_is_of_its_own_leg(funded):
    ask(funded, initiate())
    ask(funded, initiate(authorization="second"))  # closes the first one as unanswered
    (first,) = ask(funded, ended(talk_ms=2000, leg=0))
    assert (first.first, first.call.leg) == (False, 0)
    (second,) = ask(funded, ended(talk_ms=3000, leg=1))
    assert (second.first, second.call.cost) == (True, 3)


@pytest.mark.parametrize("witness", [Witness.AGI, Witness.REDUCER])
@pytest.mark.parametrize("named", [True, False])
def test_an_end_of_an_expired_hold_charges(funded, witness, named):
    leg = 0 if named else None
    ask(funded, initiate())
    ask(funded, ended(answered=False, witness=Witness.SWEEP, leg=0, expired=True), now=NOW + timedelta(hours=3))
    end = ended(talk_ms=8000, witness=witness, leg=leg)
    for first in (True, False, False):
        (settled,) = ask(funded, end, now=NOW + timedelta(hours=3))
        assert (settled.first, settled.call.cost) == (first, 8)
    assert (voice(funded).posted, voice(funded).held) == (52, 0)


@pytest.mark.parametrize(
    ("closed_by", "witness", "cost"),
    [
        (Witness.SWEEP, Witness.REDUCER, 8),
        (Witness.AMI, Witness.AGI, 8),
        (Witness.AGI, Witness.REDUCER, 0),
        (Witness.SWEEP, Witness.AMI, 0),
    ],
)
def test_the_channels_word_outweighs_a_release(funded, closed_by, witness, cost):
    ask(funded, initiate())
    ask(funded, ended(answered=False, witness=closed_by))
    ask(funded, ended(talk_ms=8000, witness=witness))
    assert voice(funded).posted == 60 - cost


@given(
    st.lists(st.sampled_from(["ask", "late end", "unanswered", "reducer", "expire", "release"]), max_size=8),
    st.integers(1, 30_000),
)
def test_a_talk_is_charged_once_in_any_order(tmp_path_factory, steps, talk):
    from tests.core.ledger.test_book import database  # noqa: PLC0415

    engine = database(tmp_path_factory.mktemp("law") / "ledger.sqlite")
    ask(engine, credit(60))
    request = initiate()
    policy = ChargingPolicy(Tariff([Rate()]))
    messages = {
        "ask": request,
        "late end": let_go(request, talk),
        "unanswered": ended(answered=False, witness=Witness.AMI, leg=0),
        "reducer": ended(talk_ms=talk, witness=Witness.REDUCER),
        "expire": ended(answered=False, witness=Witness.SWEEP, leg=0, expired=True),
        "release": ended(answered=False, leg=0),
    }
    for step in [*steps, "late end"]:
        ask(engine, messages[step], terms=policy)
    assert (voice(engine).posted, voice(engine).held) == (60 - -(-talk // 1000), 0)
    proved(engine)
    engine.dispose()


def test_doubtful_talk_is_no_more_than_its_dial(funded):
    (grant,) = ask(funded, initiate())
    assert isinstance(grant, CallGrant)
    early = structs.replace(grant.call, answered_early=True)
    report = structs.replace(ended(talk_ms=6550).ending, lasted_ms=3300)
    assert talk_ms(early, report) == 3300
    stamped = structs.replace(report, answered_at=report.at - timedelta(seconds=3))
    assert talk_ms(early, stamped) == 3000
    stepped_back = structs.replace(report, talk_ms=None, answered_at=report.at + timedelta(hours=1))
    assert talk_ms(grant.call, stepped_back) == 3300
    stepped_on = structs.replace(report, talk_ms=3_603_000)
    assert talk_ms(grant.call, stepped_on) == 3300
    assert talk_ms(grant.call, structs.replace(report, lasted_ms=None)) == 6550


@pytest.mark.parametrize("ahead", [timedelta(minutes=32), timedelta(), timedelta(days=-1)])
def test_talk_without_an_answer_has_one_clock(funded, ahead):
    """The call began by the biller's clock, and ended by Asterisk's, which differs."""
    (grant,) = ask(funded, initiate())
    assert isinstance(grant, CallGrant)
    at = grant.call.started_at + timedelta(seconds=4) + ahead
    report = structs.replace(ended().ending, talk_ms=None, at=at, ahead=ahead)
    assert talk_ms(grant.call, report) == 4000


def asked(seconds, number):
    """Return the id of a request that is asked for so many seconds after the first."""
    return make_authorization(NOW + timedelta(seconds=seconds), bytes([number] * 3))


@pytest.mark.parametrize("talked", [True, False])
def test_a_request_that_was_overtaken_is_refused(engine, talked):
    """Its session was cut, another biller began the call, and only then its ledger took the request."""
    ask(engine, credit(100))
    late, began = initiate(authorization=asked(0, 1)), initiate(authorization=asked(1, 2))
    ask(engine, began, *([ended(talk_ms=3000)] if talked else []))
    (refused,) = ask(engine, late)
    assert isinstance(refused, UnknownCall)
    settled, confirmed = ask(engine, ended(talk_ms=3000), ended(talk_ms=3000, witness=Witness.REDUCER))
    assert (settled.first, confirmed.first) == (not talked, False)
    assert (voice(engine).posted, voice(engine).held) == (97, 0)
    proved(engine)


@pytest.mark.parametrize("seconds", [0, 5, -120])
def test_the_next_call_of_a_channel_overtakes_none(engine, seconds):
    """Also where the clock was set back meanwhile."""
    ask(engine, credit(100), initiate(authorization=asked(0, 1)), ended(talk_ms=3000))
    (grant,) = ask(engine, initiate(authorization=asked(seconds, 2)))
    assert (grant.call.leg, grant.seconds) == (1, 97)
