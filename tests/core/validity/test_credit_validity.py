"""Credit ends days after the last top-up: never early, never what is held, once; and the subscriber is warned."""

from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.config.tables import Config, Smpp, Sms
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.changes import validity_changes
from celcombiller.core.audit.report import audit
from celcombiller.core.errors import Forbidden, InvalidValue
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.accounts import balances, set_credit_limit
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.notifications import balance_enquiry
from celcombiller.core.notifications.balance_enquiry import Wording
from celcombiller.core.schema import tables
from celcombiller.core.validity import end_dates, expiry
from celcombiller.core.validity.end_dates import is_top_up
from celcombiller.core.validity.validity_terms import KindTerms, TopUp, last_day, start_of, topped_up_before
from celcombiller.jobs import credit_validity
from tests.core.validity.test_validity_properties import DAY, HOUR, SMS, Node
from tests.support.databases import NOW, speak

ADMIN = Actor("admin", "127.0.0.1", manages=ALL_LEVELS)


def credit(engine, amount, who=1, *, at=NOW, origin="web", kind=Kind.VOICE):
    with engine.begin() as tx:
        account, book = balances(tx, who)[kind], Book()
        reference = f"id:{at.isoformat()}:{who}:{amount}:{kind}"
        book.load(tx, [account.id])
        book.post(reference, tables.OPERATOR_ACCOUNT_IDS[kind], account.id, amount, origin=origin, now=at)
        book.save(tx)


def posted(engine, who=1, kind=Kind.VOICE):
    with engine.begin() as tx:
        return balances(tx, who)[kind].posted


def voice(engine, who=1):
    with engine.begin() as tx:
        return balances(tx, who)[Kind.VOICE].id


def expired(engine):
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.transfer).where(tables.transfer.c.origin == "expiry"))
        return {row.reference: row.amount for row in rows}


def texts(engine):
    with engine.begin() as tx:
        query = sa.select(tables.message.c.to_number, tables.message.c.text)
        return [tuple(row) for row in tx.execute(query.order_by(tables.message.c.id))]


def days_go_by(node, start, days):
    """Look each day, as a biller that runs does each minute."""
    for day in range(days + 1):
        assert node.look(start + day * DAY)


def proved(engine):
    with engine.begin() as tx:
        report = audit(tx)
    assert report.ok, report.differences


# -- pure ------------------------------------------------------------------------------------------------------------


def test_the_last_day_ends_at_midnight_there():
    at = datetime(2026, 3, 2, 1, tzinfo=UTC)  # on 1 March in Brazil
    terms = KindTerms(90, datetime(2026, 1, 1, tzinfo=UTC))
    assert last_day(terms, at, None, "America/Sao_Paulo") == date(2026, 5, 30)
    assert last_day(terms, at, None, "UTC") == date(2026, 5, 31)
    assert last_day(terms, at, date(2026, 6, 1), "UTC") == date(2026, 6, 1)
    assert start_of(date(2026, 5, 31), "America/Sao_Paulo") == datetime(2026, 5, 31, 3, tzinfo=UTC)


def test_credit_before_the_terms_counts_from_them():
    terms = KindTerms(10, datetime(2026, 1, 20, tzinfo=UTC))
    assert last_day(terms, datetime(2020, 1, 1, tzinfo=UTC), None, "UTC") == date(2026, 1, 30)


def test_no_date_is_too_far_away():
    terms = KindTerms(10**7, NOW)
    assert last_day(terms, NOW, None, "UTC") == date.max
    assert topped_up_before(NOW.date(), 10**7, "UTC") is None


# -- in the ledger -----------------------------------------------------------------------------------------------------


def test_credit_ends_days_after_the_last_top_up(engine):
    node = Node(engine, 3, NOW)
    node.look(NOW)
    credit(engine, 50)
    days_go_by(node, NOW, 2)
    credit(engine, 7, at=NOW + 2 * DAY)
    days_go_by(node, NOW + 2 * DAY, 3)
    assert posted(engine) == 57
    days_go_by(node, NOW + 6 * DAY, 2)
    assert (posted(engine), expired(engine)) == (0, {f"expiry:{voice(engine)}:2026-11-06": 57})
    assert node.count("celcombiller_credit_expired_credits_total", kind="voice") == 57
    proved(engine)


def test_earlier_credit_counts_from_the_setting(engine):
    credit(engine, 50, at=NOW - 900 * DAY)
    credit(engine, 50, 2, at=NOW - 900 * DAY)
    node = Node(engine, 3, NOW)
    days_go_by(node, NOW, 3)
    assert (posted(engine), posted(engine, 2)) == (50, 50)
    node.look(NOW + 4 * DAY)
    assert (posted(engine), posted(engine, 2)) == (0, 0)
    proved(engine)


def test_nothing_ends_where_no_days_are_set(engine):
    credit(engine, 50)
    days_go_by(Node(engine, 0, NOW), NOW, 9)
    assert posted(engine) == 50
    with engine.begin() as tx:
        assert end_dates.read_last_days(tx, balances(tx, 1).values(), "UTC") == {}


def test_a_kind_without_days_is_left_alone(engine):
    credit(engine, 50, kind=Kind.DATA)
    credit(engine, 50)
    days_go_by(Node(engine, 1, NOW), NOW, 3)
    assert (posted(engine), posted(engine, kind=Kind.DATA)) == (0, 50)


def test_held_credit_is_taken_when_it_is_free(engine):
    credit(engine, 50)
    own = voice(engine)
    node = Node(engine, 1, NOW)
    node.look(NOW)
    with engine.begin() as tx:
        book = Book()
        book.load(tx, [own])
        book.hold("use:1", own, 30, now=NOW, expires_at=NOW + 9 * DAY)
        book.save(tx)
    days_go_by(node, NOW + DAY, 2)
    assert expired(engine) == {f"expiry:{own}:2026-11-02": 20}
    with engine.begin() as tx:
        book = Book()
        book.load(tx, [own], ["use:1"])
        book.settle("use:1", 10, origin="call", now=NOW + 3 * DAY)
        book.save(tx)
    node.look(NOW + 3 * DAY + HOUR)
    assert expired(engine) == {f"expiry:{own}:2026-11-02": 20, f"expiry:{own}:2026-11-02:2": 20}
    assert posted(engine) == 0


def test_a_credit_limit_is_not_taken(engine):
    credit(engine, 50)
    own = voice(engine)
    with engine.begin() as tx:
        set_credit_limit(tx, own, -500, NOW)
    node = Node(engine, 1, NOW)
    days_go_by(node, NOW, 3)
    assert (posted(engine), list(expired(engine).values())) == (0, [50])
    with engine.begin() as tx:
        assert balances(tx, 1)[Kind.VOICE].floor == -500


def test_a_reversed_expiry_has_its_full_time_again(engine):
    credit(engine, 50)
    node = Node(engine, 1, NOW)
    days_go_by(node, NOW, 2)
    (reference,) = expired(engine)
    with engine.begin() as tx:
        reversals.reverse(tx, reference, note="they were ill", now=NOW + 2 * DAY)
    node.look(NOW + 2 * DAY + HOUR)
    days_go_by(node, NOW + 3 * DAY, 0)
    assert posted(engine) == 50
    days_go_by(node, NOW + 4 * DAY, 1)
    assert posted(engine) == 0
    proved(engine)


def test_fewer_days_count_from_when_they_are_set(engine):
    credit(engine, 50)
    days_go_by(Node(engine, 30, NOW), NOW, 10)
    node = Node(engine, 2, NOW)
    days_go_by(node, NOW + 11 * DAY, 2)
    assert posted(engine) == 50
    node.look(NOW + 14 * DAY)
    assert posted(engine) == 0


def test_nothing_ends_right_after_a_standstill(engine):
    credit(engine, 50)
    node = Node(engine, 1, NOW)
    node.look(NOW)
    node.look(NOW + 300 * DAY)
    assert posted(engine) == 50
    node.look(NOW + 301 * DAY)
    assert posted(engine) == 50
    days_go_by(node, NOW + 301 * DAY, 1)
    assert posted(engine) == 0


def test_a_clock_that_ran_ahead_ends_nothing(engine):
    credit(engine, 50)
    node = Node(engine, 20, NOW)
    node.look(NOW)
    node.look(NOW + 300 * DAY)
    days_go_by(node, NOW, 20)
    assert posted(engine) == 50
    node.look(NOW + 21 * DAY)
    assert posted(engine) == 0


def test_all_end_in_chunks(engine, monkeypatch):
    monkeypatch.setattr(credit_validity, "CHUNK", 2)
    monkeypatch.setattr(credit_validity, "OPENING_CHUNK", 1)
    monkeypatch.setattr(end_dates, "IDS_PER_SCAN_MAX", 1)
    node = Node(engine, 1, NOW)
    credit(engine, 5, 3)
    node.look(NOW)
    for who in (1, 2):
        credit(engine, 50, who)
    days_go_by(node, NOW + HOUR, 2)
    assert sorted(expired(engine).values()) == [5, 50, 50]
    proved(engine)


def test_a_fault_in_one_account_stops_no_other(engine, monkeypatch, expected_failures):
    for who in (1, 2, 3):
        credit(engine, 50, who)
    node = Node(engine, 1, NOW)
    node.look(NOW)
    real, second = expiry.last_day, voice(engine, 2)

    def broken(terms, topped_up_at, extended, zone):
        if extended is not None:
            raise ZeroDivisionError
        return real(terms, topped_up_at, extended, zone)

    with engine.begin() as tx:
        end_dates.keep_valid_until(tx, second, NOW.date(), NOW)
    monkeypatch.setattr(expiry, "last_day", broken)
    days_go_by(node, NOW + DAY, 1)
    assert (posted(engine), posted(engine, 2), posted(engine, 3)) == (0, 50, 0)
    assert len(expected_failures) == 1
    expected_failures.clear()


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ("web", TopUp.OPERATOR),
        ("cash in the shop", TopUp.OPERATOR),
        ("sale", TopUp.SALE),
        ("voucher", TopUp.VOUCHER),
        ("payment", TopUp.PAYMENT),
        ("schedule", TopUp.SCHEDULE),
        ("credit_transfer", TopUp.CREDIT_TRANSFER),
        *((each, None) for each in ("reversal", "rerate", "sms", "commission")),
    ],
)
def test_each_origin_is_its_own_top_up(engine, origin, source):
    credit(engine, 50, origin=origin)
    with engine.begin() as tx:
        counted = [
            each
            for each in TopUp
            if tx.execute(sa.select(sa.func.count()).select_from(tables.transfer).where(is_top_up([each]))).scalar()
        ]
    assert counted == ([] if source is None else [source])


def test_a_top_up_not_read_saves_credit(engine):
    credit(engine, 50)
    node = Node(engine, 1, NOW)
    node.look(NOW)
    credit(engine, 5, at=NOW + 2 * DAY)
    own = voice(engine)
    with engine.begin() as tx:
        taken, done = expiry.expire(tx, Kind.VOICE, [own], top_ups="operator", zone="UTC", now=NOW + 2 * DAY)
    assert (taken, done, posted(engine)) == ([], 0, 55)


@pytest.mark.parametrize("others", [(), (DAY / 2,), (DAY, DAY + timedelta(minutes=1))])
def test_an_undone_sale_gives_no_days(engine, others):
    """It was counted already when it was undone; sales before and beside it keep what they gave."""
    node = Node(engine, 3, NOW)
    node.look(NOW)
    credit(engine, 50)
    node.look(NOW)
    for each in others:
        credit(engine, 1, at=NOW + each, origin="sale")
        assert node.look(NOW + each)
    bought_at = NOW + DAY + timedelta(minutes=2)
    credit(engine, 7, at=bought_at, origin="sale")
    assert node.look(bought_at)
    undo_last(engine, bought_at + timedelta(minutes=5))
    assert node.look(bought_at + timedelta(minutes=5))
    days_go_by(node, bought_at + timedelta(minutes=6), 6)
    last = max((NOW, *(NOW + each for each in others))).date() + timedelta(days=3)
    assert expired(engine) == {f"expiry:{voice(engine)}:{last}": 50 + len(others)}
    proved(engine)


def test_an_undone_sale_ends_no_new_credit(engine):
    """What has ended before is over: the undoing does not count from its top-ups."""
    node = Node(engine, 3, NOW)
    node.look(NOW)
    for each in (NOW, NOW + timedelta(hours=2)):
        credit(engine, 50, at=each, origin="sale")
        assert node.look(each)
    days_go_by(node, NOW + DAY, 5)
    assert posted(engine) == 0
    given_at = NOW + 6 * DAY
    credit(engine, 20, at=given_at, origin="reversal")
    assert node.look(given_at)
    credit(engine, 7, at=given_at + timedelta(minutes=1), origin="sale")
    undo_last(engine, given_at + timedelta(minutes=2))
    assert node.look(given_at + timedelta(minutes=3))
    days_go_by(node, given_at + timedelta(minutes=4), 3)
    assert posted(engine) == 20
    days_go_by(node, given_at + 4 * DAY, 2)
    assert posted(engine) == 0
    proved(engine)


def undo_last(engine, at):
    with engine.begin() as tx:
        reference = (
            tx.execute(sa.select(tables.transfer.c.reference).order_by(tables.transfer.c.id.desc())).scalars().first()
        )
        book = Book()
        book.load_transfers(tx, [reference])
        made = book.transfers[reference]
        book.load(tx, (made.debit_account_id, made.credit_account_id))
        book.undo(made, now=at)
        book.save(tx)


# -- who sees it -------------------------------------------------------------------------------------------------------


def test_a_subscriber_is_warned_once_for_each_end(engine):
    node = Node(engine, 10, NOW, notice_days=3)
    node.look(NOW)
    credit(engine, 50)
    days_go_by(node, NOW, 6)
    assert texts(engine) == []
    days_go_by(node, NOW + 7 * DAY, 1)
    assert texts(engine) == [("1001", "Your credit of 50 is valid until 2026-11-11.")]
    credit(engine, 5, at=NOW + 8 * DAY)
    days_go_by(node, NOW + 8 * DAY, 8)
    assert [text for _, text in texts(engine)][1:] == ["Your credit of 55 is valid until 2026-11-19."]


def test_the_warning_is_in_the_subscribers_language(engine):
    config = Config(sms=Sms(on_net_route="smpp"), smpp=Smpp(host="127.0.0.1"))
    node = Node(engine, 10, NOW, notice_days=3, policy=config.message_policy)
    speak(engine, "1001", "pt_BR")
    node.look(NOW)
    credit(engine, 1050)
    days_go_by(node, NOW, 8)
    assert texts(engine) == [("1001", "Seu crédito de 1.050 vale até 11 de nov. de 2026.")]


def test_empty_or_disabled_accounts_are_not_warned(engine):
    node = Node(engine, 10, NOW, notice_days=9)
    credit(engine, 50)
    credit(engine, 50, 2)
    node.look(NOW)
    second = voice(engine, 2)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == 1).values(enabled=False))
        book = Book()
        book.load(tx, [second])
        book.post("call:1", second, 1, 50, origin="spent", now=NOW)
        book.save(tx)
    days_go_by(node, NOW, 5)
    assert texts(engine) == []


def test_an_operator_keeps_credit_valid_for_longer(engine):
    credit(engine, 50)
    node = Node(engine, 2, NOW)
    node.look(NOW)
    with engine.begin() as tx:
        facts = {"zone": "UTC", "now": NOW}
        assert validity_changes.extend(tx, "u1001", Kind.VOICE, date(2026, 11, 8), ADMIN, **facts) == date(2026, 11, 8)
        assert validity_changes.extend(tx, "u1001", Kind.VOICE, date(2026, 11, 2), ADMIN, **facts) == date(2026, 11, 8)
        for wrong in (date(2026, 10, 31), date.max):
            with pytest.raises(InvalidValue):
                validity_changes.extend(tx, "u1001", Kind.VOICE, wrong, ADMIN, **facts)
        with pytest.raises(Forbidden):
            validity_changes.extend(tx, "u1001", Kind.VOICE, date(2026, 11, 9), Actor("eve", ""), **facts)
        trail = tx.execute(sa.select(tables.trail.c.action, tables.trail.c.subject)).all()
        assert trail == [("extend voice credit", "subscriber:u1001")] * 2
    days_go_by(node, NOW, 7)
    assert posted(engine) == 50
    node.look(NOW + 8 * DAY)
    assert posted(engine) == 0
    proved(engine)


def test_a_preview_lists_what_ends(engine):
    credit(engine, 50)
    node = Node(engine, 2, NOW)
    node.look(NOW)
    credit(engine, 9, 2, at=NOW + DAY)
    node.look(NOW + DAY)
    with engine.begin() as tx:
        found = {
            until: [
                (each.username, each.posted)
                for each in expiry.preview(tx, Kind.VOICE, until=date(2026, 11, until), zone="UTC", limit=9)
            ]
            for until in (2, 3, 4)
        }
    assert found == {2: [], 3: [("u1001", 50)], 4: [("u1001", 50), ("u1002", 9)]}


@pytest.mark.parametrize(("days", "text"), [(2, "You have 50 until 2026-11-03."), (0, "You have 50")])
def test_a_balance_enquiry_says_until_when(engine, days, text):
    credit(engine, 50)
    Node(engine, days, NOW).look(NOW)
    wording = Wording("You have {credits}", valid_until_text="until {valid_until}.")
    with engine.begin() as tx:
        facts = {"asked": "1", "account_code": "u1001", "caller_number": "", "now": NOW}
        assert balance_enquiry.answer(tx, SMS, wording, **facts).message.text == text


def test_the_audit_finds_credit_taken_too_early(engine):
    credit(engine, 50)
    node = Node(engine, 1, NOW)
    days_go_by(node, NOW, 2)
    proved(engine)
    breaks = [
        (tables.credit_expiry, {"ended_at": NOW + 9 * DAY}, "credit expires at its time"),
        (tables.credit_expiry, {"days": 99}, "credit expires at its time"),
        (tables.credit_expiry, {"topped_up_at": NOW - 9 * DAY}, "credit that was topped up does not expire"),
        (tables.credit_expiry, {"account_id": voice(engine, 2)}, "expired credit is the subscriber's own"),
        (tables.transfer, {"origin": "web"}, "credit that expired was taken by its transfer"),
    ]
    for table, change, law in breaks:
        with engine.connect() as tx:
            which = table.c.reference.like("expiry:%")
            tx.execute(sa.update(table).where(which).values(change))
            assert law in {each.law for each in audit(tx).differences}
            tx.rollback()
    with engine.connect() as tx:
        tx.execute(sa.delete(tables.credit_expiry))
        assert {each.law for each in audit(tx).differences} == {"credit that expired has the record of its end"}
        tx.rollback()
