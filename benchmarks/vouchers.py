"""How many vouchers are made and redeemed in a second.

`make bench-vouchers` runs it on SQLite and on its own PostgreSQL. Cards are made as the command makes them: random
codes, lines of CSV, hashes, in many transactions. They are redeemed through the writing thread by ``--at-once``
subscribers at a time, then one after the other, each waiting for its commit; and so are cards that give a bundle. The
yardsticks write the same rows with bare statements, one transaction for all cards made and one for each ``--at-once``
redeemed. It is not a test: it asserts only that all were made and redeemed, and that the ledger is right.
"""

import argparse
import csv
import io
import random
import secrets
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

sys.path.insert(0, str(Path(__file__).parents[1]))

from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.vouchers import Redemption
from celcombiller.core.schema import migrations, tables
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.card_sheet import card_rows
from celcombiller.core.vouchers.redemption import RedemptionTry, redeem_all
from celcombiller.core.vouchers.voucher_batches import VoucherOrder
from celcombiller.core.vouchers.voucher_codes import ENTROPY_BYTES, make_codes
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

OPERATOR = Actor("bench", "", manages=ALL_LEVELS)
SUBSCRIBERS = 10_000
SINGLES = 500
BUNDLES = 2000


def populate(engine: sa.Engine) -> None:
    """Make the subscribers and their accounts."""
    now = datetime.now(UTC)
    people = [
        {
            "username": f"u{number}",
            "name": "N",
            "clid": str(55000000 + number),
            "imsi": str(724000000000000 + number),
            "level": 1,
            "enabled": True,
            "created_at": now,
        }
        for number in range(SUBSCRIBERS)
    ]
    with engine.begin() as tx:
        migrations.upgrade(tx)
        tx.execute(sa.insert(tables.subscriber), people)
        for kind in Kind:
            columns = f"select id, '{kind}', 0, 0 from subscriber order by id"
            tx.execute(sa.text(f"insert into account (subscriber_id, kind, posted, held) {columns}"))


def make(engine: sa.Engine, cards: int, name: str = "credit", offer=None) -> tuple[list[str], float]:
    """Make a batch; return its codes, and the seconds that it took."""
    codes, lines = [], csv.writer(io.StringIO())
    gift = {"kind": Kind.VOICE, "value": 50} if offer is None else {"offer": offer}
    order = VoucherOrder(name=name, cards=cards, **gift)
    began = time.perf_counter()
    begin = partial(voucher_batches.begin, actor=OPERATOR, order=order, reference=name, now=datetime.now(UTC))
    batch = transact(engine, begin)
    for first, count in voucher_batches.pieces(cards):
        piece = make_codes(secrets.token_bytes(ENTROPY_BYTES * count))
        lines.writerows(card_rows(batch, first, piece, BalanceStyle()))
        add = partial(
            voucher_batches.add_piece,
            actor=OPERATOR,
            batch=batch,
            first_serial=first,
            codes=piece,
            now=datetime.now(UTC),
        )
        transact(engine, add)
        codes += piece
    took = time.perf_counter() - began
    transact(engine, lambda tx: voucher_batches.activate(tx, OPERATOR, batch.id, now=datetime.now(UTC)))
    return codes, took


def yardstick_of_making(engine: sa.Engine, cards: int) -> float:
    """Write as many rows to a table of the same form with one bare statement; return the seconds."""
    rows = [(1, serial, secrets.token_hex(32)) for serial in range(1, cards + 1)]
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "create table like_voucher (batch_id bigint, serial integer, code_hash text unique,"
            " primary key (batch_id, serial))"
        )
    began = time.perf_counter()
    with engine.begin() as tx:
        cursor = tx.connection.cursor()
        if tx.dialect.name == "sqlite":
            cursor.executemany("insert into like_voucher values (?, ?, ?)", rows)
        else:
            with cursor.copy("copy like_voucher from stdin") as copied:
                for row in rows:
                    copied.write_row(row)
    return time.perf_counter() - began


def yardstick_of_redeeming(engine: sa.Engine, count: int, at_once: int) -> float:
    """Write what as many redemptions write with bare statements, so many in a transaction; return the seconds."""
    now = datetime.now(UTC).isoformat()
    with engine.begin() as tx:
        for name in ("like_transfer", "like_account", "like_redemption"):
            tx.exec_driver_sql(f"drop table if exists {name}")
        tx.exec_driver_sql("create table like_transfer as select * from transfer where 1 = 0")
        tx.exec_driver_sql("create table like_account as select * from account")
        tx.exec_driver_sql("create unique index like_account_id on like_account (id)")
        tx.exec_driver_sql(
            "create table like_redemption (batch_id bigint, serial integer, subscriber_id bigint, at text,"
            " primary key (batch_id, serial))"
        )
        ids = list(tx.exec_driver_sql("select id from like_account").scalars())
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    moved = ("reference", "debit_account_id", "credit_account_id", "amount", "origin", "at", "credit_posted", "note")
    transfer = f"insert into like_transfer ({', '.join(moved)}) values ({', '.join([mark] * 8)})"
    chance, began = random.Random(1), time.perf_counter()
    for start in range(0, count, at_once):
        group = [(serial, chance.choice(ids)) for serial in range(start, start + at_once)]
        with engine.begin() as tx:
            cursor = tx.connection.cursor()
            rows = [(f"v:{serial}", 1, account, 50, "voucher", now, 50, "") for serial, account in group]
            cursor.executemany(transfer, rows)
            cursor.executemany(
                f"update like_account set posted = posted + 50 where id = {mark}", [(each[1],) for each in group]
            )
            cursor.executemany(
                f"insert into like_redemption values (1, {mark}, {mark}, {mark})",
                [(serial, 1, now) for serial, _ in group],
            )
    return time.perf_counter() - began


def work(tx: sa.Connection, tries: list[RedemptionTry]) -> list:
    """Redeem for all who wait."""
    return redeem_all(tx, tries, datetime.now(UTC))


async def redeem_many(reactor, engine: sa.Engine, codes: list[str], at_once: int) -> tuple[float, list[float]]:
    """Redeem the codes through the writing thread; return the seconds, and how long each try waited."""
    store = BatchWriter(reactor, engine, lambda *_: [])
    store.start()
    chance, waits, left = random.Random(1), [], iter(codes)

    async def one_subscriber_after_another() -> None:
        for code in left:
            asked = time.perf_counter()
            made = await store.share(work, RedemptionTry(chance.randrange(SUBSCRIBERS) + 1, code))
            assert isinstance(made, Redemption)
            waits.append(time.perf_counter() - asked)

    began = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(one_subscriber_after_another()) for _ in range(at_once)])
    took = time.perf_counter() - began
    await store.close()
    return took, waits


def tell(what: str, count: int, seconds: float, more: str = "") -> None:
    print(f"  {what:34} {count / seconds:10,.0f}/s{more}", flush=True)


async def measure(reactor, name: str, engine: sa.Engine, arguments: argparse.Namespace) -> None:
    """Measure all on one database, and prove its ledger."""
    print(f"{name}:", flush=True)
    populate(engine)
    cards, count, at_once = arguments.cards, arguments.redeem, arguments.at_once
    codes, took = make(engine, cards)
    yardstick = yardstick_of_making(engine, cards)
    tell("made", cards, took, f", {took / yardstick:.1f} x the yardstick")
    tell("yardstick", cards, yardstick)
    random.Random(1).shuffle(codes)
    took, waits = await redeem_many(reactor, engine, codes[:count], at_once)
    p99 = statistics.quantiles(waits, n=100)[98] * 1000
    yardstick = yardstick_of_redeeming(engine, count, at_once)
    tell(
        f"redeemed, {at_once} at once",
        count,
        took,
        f", 99% within {p99:.0f} ms, {took / yardstick:.1f} x the yardstick",
    )
    tell("yardstick", count, yardstick)
    took, _ = await redeem_many(reactor, engine, codes[count : count + SINGLES], 1)
    yardstick = yardstick_of_redeeming(engine, SINGLES, 1)
    tell("redeemed, one after the other", SINGLES, took, f", {took / yardstick:.1f} x the yardstick")
    tell("yardstick, each waits for the disk", SINGLES, yardstick)
    hour = BundleTerms("hour", BundleKind.SECONDS, 3600)
    now = datetime.now(UTC)
    offer = transact(engine, lambda tx: offers.add(tx, hour, price=1, valid_hours=720, renews=False, now=now))
    codes, _ = make(engine, BUNDLES, name="bundles", offer=offer)
    took, _ = await redeem_many(reactor, engine, codes, at_once)
    tell(f"bundles redeemed, {at_once} at once", BUNDLES, took)
    with engine.connect() as tx:
        report = audit(tx)
        redeemed = tx.execute(sa.select(sa.func.count()).select_from(tables.voucher_redemption)).scalar_one()
    assert report.ok, report.differences[:5]
    assert redeemed == count + SINGLES + BUNDLES
    engine.dispose()


async def main(reactor, arguments: argparse.Namespace) -> None:
    """Measure the databases that were asked for."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if "sqlite" in arguments.databases:
            (Path(folder) / "ledger.sqlite").touch()
            engine = open_engine(f"sqlite:///{folder}/ledger.sqlite", lock_seconds=10)
            await measure(reactor, "SQLite", engine, arguments)
        if "postgresql" in arguments.databases:
            cluster = PostgreSQL()
            try:
                await measure(reactor, "PostgreSQL", open_engine(cluster.database(), lock_seconds=10), arguments)
            finally:
                cluster.remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=200_000)
    parser.add_argument("--redeem", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    parser.add_argument("--folder", help="where the databases are made (the folder of temporary files)")
    given = parser.parse_args()
    react(main, (given,))
