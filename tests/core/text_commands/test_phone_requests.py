"""Commands of phones: each done once, each refusal a sentence, no PIN in any table, and the books proved after all."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.credit_transfers.transfer_terms import Confirmation, CreditTransferTerms
from celcombiller.core.errors import TooManyAttempts, UnknownSubscriber
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases
from tests.support.databases import NOW
from tests.support.selling.phones import PIN, RULES, request, serve, set_pin
from tests.support.selling.sellers import add_seller, sell, stock_of, voice_of
from tests.support.vouchers import batch

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SALE = f"{PIN}#1002#50"
TRANSFERS = replace(RULES, transfers=CreditTransferTerms(enabled=True, fee=5))


@pytest.fixture
def engine():
    made = databases.sqlite(fill=databases.three_subscribers)
    with made.begin() as tx:
        add_seller(tx, stock=1000)
        set_pin(tx)
    yield made
    with made.begin() as tx:
        report = audit(tx)
        assert report.ok, report.differences
        for table in tables.metadata.sorted_tables:
            for row in tx.execute(sa.select(table).where(sa.literal(table.name) != "pin")):
                assert not any(isinstance(each, str) and PIN in each.split("#") for each in row), (table.name, row)
    made.dispose()


def state(engine):
    with engine.connect() as tx:
        return stock_of(tx), [voice_of(tx, each) for each in (1, 2, 3)]


def answers(engine):
    with engine.connect() as tx:
        rows = tx.execute(sa.select(tables.message).order_by(tables.message.c.id)).all()
    return [(row.from_number, row.to_number, row.text) for row in rows]


def said(engine):
    return [text for _, _, text in answers(engine)]


def test_a_sale_is_made_and_answered(engine):
    answered = serve(engine, request(SALE))
    assert (answered.result, answered.is_new, answered.amount, answered.balance) == ("done", True, 50, 950)
    assert state(engine) == (950, [0, 50, 0])
    assert answers(engine) == [("777", "1001", "You have sold 50 s to 1002. You have 15 min 50 s left to sell.")]


def test_a_repeated_message_sells_once(engine):
    first = serve(engine, request(SALE, key="a"))
    for later in (SECOND, MINUTE, timedelta(days=30)):
        again = serve(engine, request(SALE, key="a"), now=NOW + later)
        assert (again.result, again.text, again.is_new) == ("done", first.text, False)
    assert state(engine) == (950, [0, 50, 0])
    assert said(engine) == [first.text] * 3  # not while the first answer was on its way


def test_a_repeat_checks_no_pin(engine):
    serve(engine, request(SALE, key="a"))
    with engine.begin() as tx:
        set_pin(tx, pin="8642")
    assert serve(engine, request(SALE, key="a")).result == "done"


def test_the_same_words_are_asked_about(engine):
    serve(engine, request(SALE))
    asked = serve(engine, request(f"{PIN} # +1002 # 50"), now=NOW + 59 * SECOND)
    assert (asked.result, state(engine)) == ("asked", (950, [0, 50, 0]))
    expected = f"You have sold 50 s to 1002 at 12:00. Send {asked.code} to this number to sell it once more."
    assert said(engine)[1] == expected
    answered = serve(engine, request(asked.code), now=NOW + 2 * MINUTE)
    assert (answered.result, state(engine)) == ("done", (900, [0, 100, 0]))
    assert serve(engine, request(asked.code), now=NOW + 3 * MINUTE).result == "done"  # its answer was lost
    assert state(engine) == (900, [0, 100, 0])


def test_the_same_words_later_are_another_sale(engine):
    serve(engine, request(SALE))
    serve(engine, request(SALE), now=NOW + 61 * SECOND)
    assert state(engine) == (900, [0, 100, 0])


def test_a_network_without_ids_repeats_for_an_hour(engine):
    serve(engine, request(SALE, has_key=False, way="smpp"))
    asked = serve(engine, request(SALE, has_key=False, way="smpp"), now=NOW + 59 * MINUTE)
    assert (asked.result, state(engine)) == ("asked", (950, [0, 50, 0]))


def test_other_words_are_not_asked_about(engine):
    for text in (SALE, f"{PIN}#1002#51", f"{PIN}#1003#50"):
        assert serve(engine, request(text)).result == "done"
    assert state(engine) == (849, [0, 101, 50])


def test_three_wrong_codes_close_the_question(engine):
    serve(engine, request(SALE))
    asked = serve(engine, request(SALE))
    wrong = f"{(int(asked.code) + 1) % 10**4:04}"
    assert [serve(engine, request(wrong)).result for _ in range(3)] == ["WRONG_CODE"] * 3
    assert serve(engine, request(asked.code)).result == "WRONG_CODE"
    assert state(engine) == (950, [0, 50, 0])


def test_a_code_of_another_is_worth_nothing(engine):
    with engine.begin() as tx:
        add_seller(tx, "u1003", stock=100)
    serve(engine, request(SALE))
    asked = serve(engine, request(SALE))
    assert serve(engine, request(asked.code, "1003")).result == "WRONG_CODE"
    assert state(engine) == (950, [0, 50, 0])


@pytest.mark.parametrize(
    ("text", "result", "sentence"),
    [
        ("1111#1002#50", "WRONG_PIN", "Not done: the PIN is wrong."),
        ("#1002#50", "UNKNOWN_COMMAND", "This is no command. Look at the formats that your operator gave you."),
        ("please sell 50, to 1002", "UNKNOWN_COMMAND", "This is no command."),
        ("x" * 2000, "UNKNOWN_COMMAND", "This is no command."),
        (f"{PIN}#4711#50", "UNKNOWN", "Not done: no subscriber has this number."),
        (f"{PIN}#1002#five", "INVALID", "Not done: the amount 'five' is no amount: write digits, such as 50."),
        (f"{PIN}#1002#-50", "INVALID", "Not done: the amount '-50' must be more than 0."),
        (f"{PIN}#1002#0", "INVALID", "Not done: the amount '0' must be more than 0."),
        (f"{PIN}#1002#1.234", "INVALID", "Not done: the amount '1.234' could mean two things: write 1234 or 1.2340."),
        (f"{PIN}#1002#1,5", "INVALID", "Not done: the amount '1,5' must be whole credits, such as 50."),
        (f"{PIN}#1002#1001", "NO_CREDIT", "Not done: "),
        (f"{PIN}#1002#{'9' * 40}", "INVALID", "Not done: "),
        ("123456", "WRONG_CODE", "Not done: no transfer waits for this code"),
        ("ABCDEFGHJKMNPQRS", "UNKNOWN_VOUCHER", "Not done: "),
        ("1002#50", "NOT_OFFERED", "Not done: transfers between subscribers are switched off"),
    ],
)
def test_what_is_refused_is_a_sentence(engine, text, result, sentence):
    before = state(engine)
    assert serve(engine, request(text)).result == result
    (answer,) = said(engine)
    assert answer.startswith(sentence), answer
    assert state(engine) == before


@pytest.mark.parametrize("amount", ["50", " 50 ", "+50", "0050", "\u0665\u0660", "\uff15\uff10"])
def test_an_amount_is_read_in_each_form(engine, amount):
    assert serve(engine, request(f"{PIN}#1002#{amount}")).result == "done"
    assert state(engine) == (950, [0, 50, 0])


@pytest.mark.parametrize(
    "number", ["1002", "+1002", "001002", "1 0-0.2", "tel:+1002", "IMSI724000000001002", "\uff11\uff10\uff10\uff12"]
)
def test_a_number_is_read_in_each_form(engine, number):
    assert serve(engine, request(f"{PIN}#{number}#50")).result == "done"
    assert state(engine) == (950, [0, 50, 0])


def test_the_pin_of_another_is_wrong(engine):
    with engine.begin() as tx:
        add_seller(tx, "u1003", stock=100)
        set_pin(tx, "u1003", "8642")
    assert serve(engine, request("8642#1002#50")).result == "WRONG_PIN"
    assert serve(engine, request(SALE, "1003")).result == "WRONG_PIN"
    assert state(engine) == (1000, [0, 0, 0])


def test_who_sells_nothing_is_told_so(engine):
    with engine.begin() as tx:
        set_pin(tx, "u1002")
    assert serve(engine, request(f"{PIN}#1003#50", "1002")).result == "UNKNOWN_SELLER"
    assert serve(engine, request(f"{PIN}#1003#50", "1003")).result == "WRONG_PIN"
    assert state(engine) == (1000, [0, 0, 0])


def test_tries_of_pins_are_limited(engine):
    rules = replace(RULES, per_minute_max=100)
    results = [serve(engine, request("1111#1002#50"), rules=rules).result for _ in range(12)]
    assert results[:5] == ["WRONG_PIN"] * 5
    assert results[-1] == "TOO_MANY_ATTEMPTS"
    assert serve(engine, request(SALE), rules=rules).result == "TOO_MANY_ATTEMPTS"
    assert serve(engine, request(SALE), now=NOW + 30 * MINUTE).result == "done"


def test_a_late_message_is_refused(engine):
    late = NOW - timedelta(hours=24, seconds=1)
    assert serve(engine, request(SALE, sent_at=late)).result == "TOO_LATE"
    assert said(engine) == [RULES.wording.late]
    assert serve(engine, request(SALE, sent_at=NOW - timedelta(hours=23))).result == "done"
    assert serve(engine, request(f"{PIN}#1003#5", sent_at=NOW + timedelta(days=9))).result == "done"  # a wrong clock
    assert serve(engine, request(f"{PIN}#1003#6", sent_at=late), rules=replace(RULES, late=None)).result == "done"


def test_a_forged_sender_sells_nothing(engine):
    for text in (SALE, "1002#5", "123456", "nonsense"):
        assert serve(engine, request(text, is_trusted=False)).result == "UNTRUSTED_SENDER"
    assert said(engine) == ["Not done: this phone is known by its number only, and not by a password."]  # once an hour
    serve(engine, request(SALE, is_trusted=False), now=NOW + 60 * MINUTE)
    assert len(said(engine)) == 2
    assert state(engine) == (1000, [0, 0, 0])
    with engine.connect() as tx:
        assert tx.execute(sa.select(tables.phone_command)).all() == []
        assert tx.execute(sa.select(tables.login_attempt)).all() == []


def test_a_stranger_is_not_answered(engine):
    with pytest.raises(UnknownSubscriber):
        serve(engine, request(SALE, "4711"))
    assert said(engine) == []


def test_a_flood_is_not_answered(engine):
    for _ in range(10):
        serve(engine, request("nonsense"))
    with pytest.raises(TooManyAttempts):
        serve(engine, request(SALE))
    assert len(said(engine)) == 10
    assert serve(engine, request(SALE), now=NOW + MINUTE).result == "done"


def test_a_changed_pin_replaces_the_old_one(engine):
    assert serve(engine, request(f"{PIN}#8642#8642", to="778")).result == "done"
    assert serve(engine, request(SALE)).result == "WRONG_PIN"
    assert serve(engine, request("8642#1002#50")).result == "done"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1111#8642#8642", "WRONG_PIN"),
        (f"{PIN}#8642#8643", "INVALID"),
        (f"{PIN}#1111#1111", "INVALID"),
        (f"{PIN}#1001#1001", "INVALID"),
        (f"{PIN}#abcd#abcd", "INVALID"),
        (f"{PIN}#8642", "UNKNOWN_COMMAND"),
    ],
)
def test_a_pin_that_cannot_be_set_stays(engine, text, result):
    assert serve(engine, request(text, to="778")).result == result
    assert serve(engine, request(SALE)).result == "done"


def test_a_voucher_is_redeemed_once(engine):
    with engine.begin() as tx:
        _, codes = batch(tx)
    code = codes[0].lower().replace("-", " ")
    assert serve(engine, request(code, "1002")).text == "The voucher gave you 50 s. Your balance is 50 s."
    assert serve(engine, request(codes[0], "1002")).result == "done"  # its answer was lost
    assert serve(engine, request(codes[0], "1003")).result == "VOUCHER_REDEEMED"
    assert state(engine) == (1000, [0, 50, 0])


def test_a_voucher_reads_o_as_zero(engine):
    with engine.begin() as tx:
        _, codes = batch(tx, cards=40)
    code = next(each for each in codes if "0" in each and "1" in each)
    assert serve(engine, request(code.replace("0", "O").replace("1", "I"), "1002")).result == "done"
    assert state(engine) == (1000, [0, 50, 0])


def test_wrong_vouchers_are_limited(engine):
    with engine.begin() as tx:
        _, codes = batch(tx, cards=2)
    rules = replace(RULES, per_minute_max=100)
    wrong = codes[0][:-1] + ("2" if codes[0][-1] != "2" else "3")
    results = [serve(engine, request(wrong, "1002"), rules=rules).result for _ in range(12)]
    assert results[0] == "UNKNOWN_VOUCHER"
    assert results[-1] == "TOO_MANY_ATTEMPTS"
    assert state(engine) == (1000, [0, 0, 0])


def give(engine):
    with engine.begin() as tx:
        sell(tx, 100, "1002", key="first")


def test_a_transfer_is_confirmed_by_its_code(engine):
    give(engine)
    asked = serve(engine, request("1003#50", "1002"), rules=TRANSFERS)
    assert (asked.result, asked.text) == ("asked", "")
    (question,) = said(engine)
    code = question.split()[1]
    assert question == f"Send {code} to this number to give 50 s to 1003. It costs you 5 s."
    assert serve(engine, request("1" + code[1:], "1002"), rules=TRANSFERS).result == "WRONG_CODE" or code[0] == "1"
    answered = serve(engine, request(code, "1002"), rules=TRANSFERS)
    assert answered.text == "You have given 50 s to 1003. Your balance is 45 s."
    assert serve(engine, request(code, "1002"), rules=TRANSFERS).text == answered.text
    assert state(engine) == (900, [0, 45, 50])
    assert ("777", "1003", "1002 has given you 50 s. Your balance is 50 s.") in answers(engine)


def test_a_repeated_transfer_sends_a_new_code(engine):
    give(engine)
    for later in (0, 5, 31):
        asked = request("1003#50", "1002", key="t")
        assert serve(engine, asked, rules=TRANSFERS, now=NOW + later * SECOND).result == "asked"
    _, second = said(engine)
    assert serve(engine, request(second.split()[1], "1002"), rules=TRANSFERS).result == "done"
    assert state(engine) == (900, [0, 45, 50])


def test_a_pin_confirms_a_transfer(engine):
    give(engine)
    rules = replace(TRANSFERS, transfers=replace(TRANSFERS.transfers, confirmation=Confirmation.PIN))
    with engine.begin() as tx:
        set_pin(tx, "u1002")
    serve(engine, request("1003#50", "1002"), rules=rules)
    assert said(engine) == ["Send your PIN to this number to give 50 s to 1003. It costs you 5 s."]
    assert serve(engine, request("1111", "1002"), rules=rules).result == "WRONG_PIN"
    assert serve(engine, request(PIN, "1002"), rules=rules).result == "done"
    assert state(engine) == (900, [0, 45, 50])


def test_a_disabled_seller_sells_nothing(engine):
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1001", {"enabled": False}, NOW)
    assert serve(engine, request(SALE)).result in ("SELLER_DISABLED", "DISABLED")
    assert state(engine) == (1000, [0, 0, 0])


def test_a_crash_before_the_commit_leaves_nothing(engine):
    class Killed(Exception):
        pass

    for survived in range(2):
        commits = iter([None] * survived)

        def die(commits=commits):
            try:
                next(commits)
            except StopIteration:
                raise Killed from None

        with pytest.raises(Killed):
            serve(engine, request(SALE, key="a"), dies=die)
        assert (state(engine), said(engine)) == ((1000, [0, 0, 0]), [])
    assert serve(engine, request(SALE, key="a")).is_new
    assert state(engine) == (950, [0, 50, 0])
