"""What the audit finds of renewals that do not follow each other, and of holds that outlived their validity."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.schema import tables
from tests.core.charging.test_slices import begin, update
from tests.core.ledger.test_book import NOW, ask, credit, ended, engine, initiate, proved  # noqa: F401


@pytest.fixture
def renewed(engine):  # noqa: F811
    """Return a ledger with a call that was renewed twice, and goes on."""
    (_, grant) = ask(engine, credit(1000), begin())
    ask(engine, update(granted=grant.seconds, used=20), update(granted=80, used=70))
    proved(engine)
    return engine


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update call_renewal set seconds_before = 5 where seconds_before = 80", "begins where the one before ended"),
        ("update call_renewal set held_before = 5 where seconds_before = 80", "begins where the one before ended"),
        ("update call_renewal set held_after = 5 where seconds_before <> 80", "begins where the one before ended"),
        ("delete from call_renewal where seconds_before = 80", "holds what its last renewal says"),
        ("update call set granted_seconds = 5", "holds what its last renewal says"),
        ("update call_renewal set held_after = 5 where seconds_before = 80", "holds what its last renewal says"),
        ("update hold set amount = 5", "holds what its last renewal says"),
    ],
)
def test_audit_finds_a_wrong_renewal(renewed, damage, law):
    with renewed.begin() as tx:
        tx.execute(sa.text(damage))
        assert any(law in each.law for each in audit(tx).differences)


def test_the_renewals_of_a_settled_call_stay_right(renewed):
    ask(renewed, ended(talk_ms=100_000))
    proved(renewed)


def test_overdue_holds_are_listed_as_no_difference(engine):  # noqa: F811
    ask(engine, credit(100), initiate())
    with engine.begin() as tx:
        expires_at = tx.execute(sa.select(tables.hold.c.expires_at)).scalar_one()
        assert audit(tx, expires_at).overdue_holds == []
        report = audit(tx, expires_at + timedelta(seconds=1))
    (hold,) = report.overdue_holds
    assert (hold.reference, hold.account, hold.amount) == ("call:pbx1:1.0:0", "u1001's voice account", 100)
    assert report.ok
    assert hold.expires_at > NOW
