"""Subscribers get their messages in their own language, else in that of the settings: over the paths of each message."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.config.tables import Balance, Config, Console, CreditTransfers, Notices, Sellers, Smpp, Sms
from celcombiller.core.languages.built_in_texts import BUILT_IN
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.bookmarks import begin_bookmark
from celcombiller.core.model.accounts import Kind
from celcombiller.core.notifications import balance_enquiry, bundle_notices, low_balance
from celcombiller.core.notifications.bundle_notices import BundleNotices
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales
from celcombiller.jobs.notices.spending_notices import notify_spenders
from tests.core.bundles.test_bundle_records import give
from tests.support import databases
from tests.support.databases import NOW, speak
from tests.support.schedules import drive
from tests.support.selling.phones import FORMATS, PIN, request, serve, set_pin
from tests.support.selling.sellers import OPERATOR, add_seller, refill, sell
from tests.support.vouchers import batch

CONFIG = Config(
    console=Console(language="pt_BR"),
    sms=Sms(on_net_route="smpp", sender="biller"),
    smpp=Smpp(host="127.0.0.1"),
    balance=Balance(say="number", scale=2),
    notices=Notices(thresholds=(2000,), spending_share=80, not_renewed=BUILT_IN),
    credit_transfers=CreditTransfers(enabled=True, fee=150),
    sellers=Sellers(**dict.fromkeys(Sellers().texts, BUILT_IN)),
)
RULES = replace(CONFIG.command_rules, formats=FORMATS)
POLICY = CONFIG.message_policy


@pytest.fixture
def engine():
    """Give three subscribers who have Spanish, none, and English."""
    made = databases.sqlite(fill=databases.three_subscribers)
    for number, language in (("1001", "es"), ("1003", "en")):
        speak(made, number, language)
    yield made
    made.dispose()


def texts(engine):
    with engine.connect() as tx:
        rows = tx.execute(sa.select(tables.message.c.to_number, tables.message.c.text).order_by(tables.message.c.id))
        return [tuple(row) for row in rows]


def move(engine, amount, number=1, *, kind=Kind.VOICE):
    with engine.begin() as tx:
        account, book = balances(tx, number)[kind], Book(today=NOW.date())
        sides = [tables.OPERATOR_ACCOUNT_IDS[kind], account.id]
        book.load(tx, sides)
        sides = sides if amount > 0 else sides[::-1]
        move.number += 1
        book.post(f"moved:{move.number}", *sides, abs(amount), origin="web" if amount > 0 else "call", now=NOW)
        book.save(tx)


move.number = 0


def enquire(engine, config=CONFIG):
    with engine.begin() as tx:
        for number in ("1001", "1002", "1003"):
            who = {"account_code": "", "caller_number": number}
            balance_enquiry.answer(tx, config.message_policy, config.wording, asked="a", now=NOW, **who)


def test_balances_are_told_in_each_language(engine):
    move(engine, 123_456)
    enquire(engine)
    assert texts(engine) == [
        ("1001", "Su saldo es 1.234,56."),
        ("1002", "Seu saldo é 0."),
        ("1003", "Your balance is 0."),
    ]


def test_an_own_text_goes_before_ours(engine):
    move(engine, 123_456)
    own = Config(
        console=Console(language="pt_BR"),
        balance=Balance(say="number", scale=2, text="Credito: {balance}"),
        sms=Sms(account="sms", on_net_route="smpp"),
        smpp=Smpp(host="127.0.0.1"),
    )
    enquire(engine, own)
    assert [text for _, text in texts(engine)] == [
        "Credito: 1.234,56 Para mensajes: 0.",
        "Credito: 0 Para mensagens: 0.",
        "Credito: 0 For messages: 0.",
    ]


def test_bundles_are_told_in_each_language(engine):
    with engine.begin() as tx:
        give(tx, "id:1")
        give(tx, "id:2", subscriber_id=2)
    enquire(engine)
    assert texts(engine)[0][1].startswith("Su saldo es 0. Paquetes: ")
    assert texts(engine)[1][1].startswith("Seu saldo é 0. Pacotes: ")


def test_notices_are_in_each_language(engine):
    for number in (1, 2, 3):
        move(engine, 10_000, number)
        with engine.begin() as tx:
            account = tx.execute(
                sa.update(tables.account)
                .where(tables.account.c.subscriber_id == number, tables.account.c.kind == "voice")
                .values(day_limit=10_000, spent_on=NOW.date())
                .returning(tables.account.c.id)
            )
            assert account.one()
        move(engine, -8_750, number)
    with engine.begin() as tx:
        rules = CONFIG.notice_rules
        begin_bookmark(tx, low_balance.BOOKMARK, 0)
        found = low_balance.find(tx, rules, 0, 10_000, NOW)
        low_balance.queue(tx, rules, POLICY, found, NOW)

        async def transact(work):
            return work(tx)

        drive(notify_spenders(transact, CONFIG, NOW))
        made = give(tx)
        for who in (1, 2):
            bundle = replace(made, subscriber_id=who, account_id=made.account_id + who)
            bundle_notices.notify_not_renewed(
                tx, BundleNotices(CONFIG.phone_text("notices.not_renewed"), POLICY), bundle, NOW
            )
    assert texts(engine) == [
        ("1001", "Su saldo es 12,5."),
        ("1002", "Seu saldo é 12,5."),
        ("1003", "Your balance is 12.5."),
        ("1001", "Usted gasto 87,5 de 100."),
        ("1002", "Voce gastou 87,5 de 100."),
        ("1003", "You have spent 87.5 of 100."),
        ("1001", f"{made.name} no se renovo: su saldo es bajo."),
        ("1002", f"{made.name} nao foi renovado: seu saldo é baixo."),
    ]


def test_sellers_are_answered_in_their_language(engine):
    with engine.begin() as tx:
        add_seller(tx, stock=100_000)
        set_pin(tx)
    for text in (f"{PIN}#1002#5000", f"{PIN}#1002#5000", f"{PIN}#1002#1.234", "1357#1002#7", f"{PIN}#9#7", "?"):
        serve(engine, request(text), rules=RULES)
    said = [text for number, text in texts(engine) if number == "1001"]
    code = said[1].partition("Envie ")[2][:4]
    assert said == [
        "Usted vendio 50 a 1002. Le queda para vender: 950.",
        f"Usted vendio 50 a 1002 a las 12:00. Envie {code} a este numero para venderlo otra vez.",
        "No se hizo: el importe '1.234' puede tener dos sentidos: escriba 1234 o 1.2340.",
        "No se hizo: el PIN esta mal.",
        "No se hizo: no existe ese abonado.",
        "Comando desconocido. Mire los formatos que le dio su operador.",
    ]


def test_both_sides_of_a_sale_are_told(engine):
    terms = CONFIG.selling_terms
    with engine.begin() as tx:
        add_seller(tx)
        refill(tx, 10_000, terms=terms)
        made = sell(tx, 150, terms=terms)
        sales.undo(tx, terms, OPERATOR, made.receipt.label, now=NOW + timedelta(minutes=1))
    label = made.receipt.label
    assert texts(engine) == [
        ("1001", "Usted recibio 100 para vender, recibo office-000001. Le queda para vender: 100."),
        ("1001", f"Vendido: 1,5 a 1002, recibo {label}. Le queda para vender: 98,5."),
        ("1002", f"Voce recebeu 1,5. Seu saldo é 1,5. Recibo {label}."),
        ("1001", f"Anulado: 1,5 a 1002, recibo {label}. Le queda para vender: 100."),
        ("1002", f"Uma venda de 1,5 foi desfeita, recibo {label}. Seu saldo é 0."),
    ]


def test_transfers_are_told_to_both_sides(engine):
    move(engine, 10_000)
    for text in ("1002#20000", "1002#5000"):
        serve(engine, request(text), rules=RULES)
    code = texts(engine)[1][1].split()[1]
    serve(engine, request(code), rules=RULES)
    assert texts(engine) == [
        ("1001", "No se hizo: se necesitan 200 y 1,5 por la transferencia, y hay 100."),
        ("1001", f"Envie {code} a este numero para dar 50 a 1002. Le cuesta 1,5."),
        ("1002", "1001 deu 50 a voce. Seu saldo é 50."),
        ("1001", "Usted dio 50 a 1002. Su saldo es 48,5."),
    ]


@pytest.mark.parametrize(
    ("kind", "value", "spanish", "portuguese"),
    [
        (Kind.VOICE, 250, "2,5", "2,5"),
        (Kind.SMS, 1, "1 mensaje", "1 mensagem"),
        (Kind.SMS, 1000, "1.000 mensajes", "1.000 mensagens"),
        (Kind.DATA, 1, "1 crédito de datos", "1 crédito de dados"),
        (Kind.DATA, 20, "20 créditos de datos", "20 créditos de dados"),
    ],
)
def test_vouchers_are_told_in_units(engine, kind, value, spanish, portuguese):
    with engine.begin() as tx:
        _, codes = batch(tx, kind=kind, value=value)
    left = "2,5" if kind is Kind.VOICE else "0"
    serve(engine, request(codes[0]), rules=RULES)
    serve(engine, request(codes[1], "1002"), rules=RULES)
    serve(engine, request(codes[1]), rules=RULES)
    assert texts(engine) == [
        ("1001", f"La tarjeta le dio {spanish}. Su saldo es {left}."),
        ("1002", f"O cartao deu {portuguese} a voce. Seu saldo é {left}."),
        ("1001", "No se hizo: la tarjeta de recarga ya se uso."),
    ]
