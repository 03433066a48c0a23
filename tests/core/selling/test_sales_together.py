"""Two transactions at once on PostgreSQL: no gap of receipts, no limit passed, no deadlock."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import BillerError
from celcombiller.core.model.selling import Commission
from celcombiller.core.selling import sales
from celcombiller.database.transaction import transact
from tests.support import databases
from tests.support.databases import NOW
from tests.support.selling.sellers import OPERATOR, TERMS, actor_of, add_seller, numbers_of, refill, sell, stock_of


@pytest.fixture
def engine(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers) as made:
        with made.begin() as tx:
            add_seller(tx, stock=200, day_limit=100, commission=Commission.BONUS, commission_rate=1000)
            add_seller(tx, "u1002", parent_id=1)
        yield made


def together(engine, works):
    """Do each work in a transaction of its own, all at once; return the results, or the codes of refusals."""

    def do(work):
        try:
            return transact(engine, work)
        except BillerError as refusal:
            return refusal.code

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(do, works))


@pytest.mark.real
def test_sales_at_once_keep_limit_and_numbers(engine):
    """Eight sales of 20, of which five are within the limit of the day (about 3 s)."""
    done = together(engine, [lambda tx, key=key: sell(tx, 20, "1003", key=str(key)) for key in range(8)])
    assert sorted(each for each in done if isinstance(each, str)) == ["DAY_LIMIT"] * 3
    with engine.begin() as tx:
        assert numbers_of(tx, "S1") == [1, 2, 3, 4, 5]
        assert stock_of(tx) == 110
        assert audit(tx).ok


@pytest.mark.real
def test_one_sale_sent_at_once_sells_once(engine):
    """The same request on six connections (about 3 s)."""
    done = together(engine, [lambda tx: sell(tx, 20, "1003")] * 6)
    assert sorted(each.is_new for each in done) == [False] * 5 + [True]
    with engine.begin() as tx:
        assert numbers_of(tx, "S1") == [1]


@pytest.mark.real
def test_first_receipts_of_an_office_at_once(cluster):
    """Six refills make the series of the office, all at once (about 3 s)."""
    with databases.on_postgresql(cluster, databases.three_subscribers) as engine:
        with engine.begin() as tx:
            add_seller(tx)
        together(engine, [lambda tx, key=key: refill(tx, 10, key=str(key)) for key in range(6)])
        with engine.begin() as tx:
            assert numbers_of(tx, "office") == [1, 2, 3, 4, 5, 6]
            assert stock_of(tx) == 60


@pytest.mark.real
def test_sales_undos_and_refills_cross_without_deadlock(engine):
    """Each of two sellers sells to the other and undoes, while the first refills the second (about 4 s)."""
    with engine.begin() as tx:
        refill(tx, 50, "u1002", key="first")
        for key in range(3):
            sell(tx, 10, "1002", key=f"a{key}")
            sell(tx, 10, "1001", seller_id=2, key=f"b{key}")
    works = []
    for key in range(3):
        works += [
            lambda tx, key=key: sell(tx, 5, "1002", key=f"c{key}"),
            lambda tx, key=key: sell(tx, 5, "1001", seller_id=2, key=f"d{key}"),
            lambda tx, key=key: sales.undo(tx, TERMS, OPERATOR, f"S1-00000{key + 1}", now=NOW),
            lambda tx, key=key: sales.undo(tx, TERMS, actor_of(2), f"S2-00000{key + 1}", now=NOW),
            lambda tx, key=key: refill(tx, 1, "u1002", key=f"e{key}", from_parent=True, actor=actor_of(1)),
        ]
    done = together(engine, works)
    assert not [each for each in done if isinstance(each, str)], done
    with engine.begin() as tx:
        assert audit(tx).ok
        assert numbers_of(tx, "S1") == list(range(1, 10))
        assert numbers_of(tx, "S2") == list(range(1, 7))
