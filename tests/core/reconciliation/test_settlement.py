"""What Asterisk has and the ledger has not is found, and settled once, at the price of then."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.requests import CallAnswered, Terminate
from celcombiller.core.model.calls import CallReport, CallState, Witness
from celcombiller.core.reconciliation.cdr import join_rows
from celcombiller.core.reconciliation.differences import DifferenceKind
from celcombiller.core.reconciliation.settlement import (
    PastCatalogue,
    ReconciliationTerms,
    list_charged,
    reconcile_channels,
)
from celcombiller.core.schema import tables
from celcombiller.core.tariffs import tariff_records
from celcombiller.core.voice.call_queries import recent
from tests.core.ledger.test_book import TERMS, ask, credit, database, ended, initiate, proved, voice
from tests.core.reconciliation.test_cdr import NOW, row
from tests.support.properties import share
from tests.support.tariffs import make_tariff, rate, write

HOW = ReconciliationTerms("pbx1", "Master.csv")
LATER = NOW + timedelta(hours=1)
MISSING, OPEN, DURATION = DifferenceKind.MISSING, DifferenceKind.OPEN, DifferenceKind.DURATION


def cdr(uniqueid="1.0", begins=0, answered=5, talk=60.0, **facts):
    return join_rows([row(begins, answered, talk, uniqueid=uniqueid, **facts)])


def reconcile(engine, *channels, apply=True, how=HOW, terms=TERMS, now=LATER):
    with engine.begin() as tx:
        return reconcile_channels(tx, PastCatalogue(terms), how, channels, now, apply=apply)


def kinds(found):
    return [each.difference.kind for each in found]


def calls(engine):
    with engine.begin() as tx:
        return [call for *_, call in reversed(recent(tx, limit=1000))]


@pytest.fixture
def funded(engine):
    ask(engine, credit(1000))
    yield engine
    proved(engine)


def talked(uniqueid="1.0", answered=5, talk=60.0, **facts):
    """Return the requests of a call that the ledger knows."""
    answered_at = NOW + timedelta(seconds=answered)
    report = CallReport(True, answered_at + timedelta(seconds=talk), round(talk * 1000), answered_at)
    return initiate(uniqueid, **facts), Terminate("pbx1", uniqueid, Witness.AGI, report)


def test_a_missing_call_is_charged_once(funded):
    (shown,) = reconcile(funded, cdr(), apply=False)
    assert (shown.difference.kind, shown.cost, shown.is_settled) == (MISSING, 60, False)
    assert (voice(funded).posted, calls(funded)) == (1000, [])
    (settled,) = reconcile(funded, cdr())
    assert (settled.cost, settled.is_settled) == (60, True)
    assert reconcile(funded, cdr()) == []
    assert (voice(funded).posted, voice(funded).held) == (940, 0)
    (call,) = calls(funded)
    assert (call.state, call.witness, call.talk_ms, call.started_at) == (
        *(CallState.SETTLED, Witness.CDR, 60_000),
        NOW + timedelta(seconds=5),
    )
    assert call.note.startswith("by the CDR of Master.csv, row 1")


def test_doubled_records_charge_once(funded):
    reconcile(funded, cdr(), cdr())
    assert voice(funded).posted == 940


def test_a_late_witness_confirms_the_cdr(funded):
    reconcile(funded, cdr())
    request, end = talked()
    (late,) = ask(funded, replace(end, unauthorized_request=request))
    assert (late.first, late.difference_ms) == (False, 0)
    assert voice(funded).posted == 940


def test_a_cdr_of_a_known_call_changes_nothing(funded):
    ask(funded, *talked())
    assert reconcile(funded, cdr()) == []
    assert voice(funded).posted == 940


@pytest.mark.parametrize(("talk", "differs"), [(58, False), (62, False), (57, True), (63, True), (200, True)])
def test_another_duration_is_reported_and_not_charged(funded, talk, differs):
    ask(funded, *talked())
    found = reconcile(funded, cdr(talk=float(talk)))
    assert kinds(found) == [DURATION] * differs
    assert voice(funded).posted == 940
    for each in found:
        assert (each.difference.cdr_ms, each.difference.ledger_ms) == (talk * 1000, 60_000)


def test_ringing_before_the_answer_is_no_difference(funded):
    ask(funded, *talked(answered=45, answered_early=True))
    assert reconcile(funded, cdr(answered=5, talk=100.0)) == []
    assert kinds(reconcile(funded, cdr(answered=5, talk=140.0))) == [DURATION]
    assert kinds(reconcile(funded, cdr(answered=5, talk=30.0))) == [DURATION]


@pytest.mark.parametrize(("answered", "talk"), [(4.5, 60), (5.99, 60), (6.02, 60), (9, 56)])
def test_an_open_call_ends_as_the_cdr_says(funded, answered, talk):
    """A CDR has whole seconds, cut off: the answer that a witness saw is later, and the talk is not shorter for that."""
    ask(funded, initiate(), CallAnswered("pbx1", "1.0", NOW + timedelta(seconds=answered)))
    (shown,) = reconcile(funded, cdr(), apply=False)
    assert (shown.difference.kind, calls(funded)[0].state) == (OPEN, CallState.OPEN)
    (settled,) = reconcile(funded, cdr())
    assert settled.is_settled
    assert (calls(funded)[0].talk_ms, calls(funded)[0].witness) == (talk * 1000, Witness.CDR)
    assert (voice(funded).posted, voice(funded).held) == (1000 - talk, 0)


def test_an_open_call_without_answer_is_released(funded):
    ask(funded, initiate())
    (settled,) = reconcile(funded, cdr(answered=None, talk=0.0))
    assert (settled.difference.kind, calls(funded)[0].state) == (OPEN, CallState.RELEASED)
    assert (voice(funded).posted, voice(funded).held) == (1000, 0)


@pytest.mark.parametrize("expired", [True, False])
def test_a_call_given_up_is_charged_late(funded, expired):
    ask(funded, initiate(), ended(answered=False, witness=Witness.SWEEP, expired=expired))
    (settled,) = reconcile(funded, cdr())
    assert (settled.difference.kind, settled.cost) == (MISSING, 60)
    assert reconcile(funded, cdr()) == []
    assert voice(funded).posted == 940


def test_a_cdr_does_not_overrule_the_channel(funded):
    ask(funded, initiate(), ended(answered=False))
    assert kinds(reconcile(funded, cdr())) == [DURATION]
    assert voice(funded).posted == 1000


def test_a_second_dial_unknown_is_missing(funded):
    ask(funded, *talked())
    both = join_rows([row(uniqueid="1.0"), row(70, 70, 20.0, uniqueid="1.0", dialled="1003", place=2)])
    (settled,) = reconcile(funded, both)
    assert (settled.difference.kind, settled.difference.to_number, settled.cost) == (MISSING, "1003", 20)
    assert reconcile(funded, both) == []
    assert voice(funded).posted == 920


def test_clocks_that_differ_charge_nothing(funded):
    ask(funded, *talked())
    assert reconcile(funded, cdr(begins=400, answered=405)) == []
    assert kinds(reconcile(funded, cdr(begins=400, answered=405, talk=90.0))) == [DURATION]
    assert voice(funded).posted == 940


def test_calls_of_others_are_left_out(funded):
    assert reconcile(funded, cdr(caller="5511999999999")) == []
    assert reconcile(funded, cdr(), how=replace(HOW, contexts=frozenset({"other"}))) == []
    assert reconcile(funded, cdr(), how=replace(HOW, free_numbers=frozenset({"1002"}))) == []
    assert voice(funded).posted == 1000


def test_a_number_that_cannot_be_charged_is_listed(funded):
    found = reconcile(funded, cdr(dialled="s"), cdr("2.0", dialled="5555"))
    assert [(each.refusal[:10], each.is_settled) for each in found] == [("BAD_NUMBER", False)] * 2


def test_calls_without_a_record_are_found(funded):
    ask(funded, *talked(), *talked("2.0"))
    with funded.begin() as tx:
        last, found = list_charged(tx, "pbx1", since=NOW, until=LATER, after_id=0)
        assert [each.uniqueid for each in found] == ["1.0", "2.0"]
        assert list_charged(tx, "pbx1", since=NOW, until=LATER, after_id=last) == (None, [])
        assert list_charged(tx, "pbx2", since=NOW, until=LATER, after_id=0)[1] == []


def test_a_missing_call_costs_the_price_of_then(funded):
    began = NOW - timedelta(days=60)
    with funded.begin() as tx:
        tariff = make_tariff(tx, began)
        for price, days in ((2, 50), (3, 30), (5, 20)):
            at = NOW - timedelta(days=days)
            write(tx, tariff.id, at, rate(price=price))
        tariff_records.set_default(tx, tariff.id)
    days_ago = cdr(begins=-40 * 86400, answered=-40 * 86400 + 5, talk=10.0)
    (settled,) = reconcile(funded, days_ago)
    assert (settled.cost, calls(funded)[0].tariff_version_id is not None) == (20, True)


def test_the_audit_asks_for_the_record(engine):
    ask(engine, credit(1000))
    reconcile(engine, cdr())
    proved(engine)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.testimony).values(note="x"))
        (difference,) = audit(tx).differences
    assert (difference.subject, difference.found) == ("call:pbx1:1.0:0", "x")


def test_clocks_that_differ_end_an_open_call(funded):
    ask(funded, initiate())
    (settled,) = reconcile(funded, cdr(begins=-400, answered=-395))
    assert (settled.difference.kind, calls(funded)[0].talk_ms) == (OPEN, 60_000)


def test_the_record_of_a_hangup_alone_says_nothing(funded):
    ask(funded, *talked())
    assert reconcile(funded, cdr(begins=65, answered=65, talk=1.0, dialled="h", destination_channel="")) == []


FATES = st.sampled_from(["known", "dropped", "open", "expired", "shifted", "unanswered"])


@share(0.5)
@given(
    fates=st.lists(st.tuples(FATES, st.integers(0, 20), st.integers(0, 90)), max_size=10),
    doubled=st.booleans(),
    data=st.data(),
)
def test_exactly_what_was_dropped_is_settled(fates, doubled, data):
    """The law: whatever the biller missed is charged once; what it knows, or another duration, is not charged."""
    engine = database()
    ask(engine, credit(1_000_000))
    channels, expected, wanted = [], 0, []
    for number, (fate, ring, talk) in enumerate(fates):
        uniqueid = f"{number}.0"
        request, end = talked(uniqueid, ring, talk)
        shift = 30 if fate == "shifted" else 0
        answered = None if fate == "unanswered" else ring
        channels.append(cdr(uniqueid, answered=answered, talk=float(0 if fate == "unanswered" else talk + shift)))
        if fate in ("known", "shifted"):
            ask(engine, request, end)
        elif fate == "open":
            ask(engine, request)
        elif fate == "expired":
            ask(engine, request, ended(uniqueid, answered=False, witness=Witness.SWEEP, expired=True))
        if fate != "unanswered":
            expected += max(talk, 1)
        kind = {"dropped": MISSING, "expired": MISSING, "open": OPEN, "shifted": DURATION}.get(fate)
        wanted += [kind] if kind else []
    order = data.draw(st.permutations(channels * (2 if doubled else 1)))
    dry = reconcile(engine, *channels, apply=False)
    assert sorted(kinds(dry)) == sorted(wanted)
    for start in range(0, len(order), 3):
        reconcile(engine, *order[start : start + 3])
    assert set(kinds(reconcile(engine, *channels))) <= {DURATION}
    assert voice(engine).posted == 1_000_000 - expected
    assert voice(engine).held == 0
    proved(engine)
    engine.dispose()
