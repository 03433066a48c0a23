"""The operator's commands for the validity of credit."""

import json
from datetime import UTC, date, datetime, timedelta
from functools import partial

from twisted.internet.task import Clock

from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.validity.validity_terms import ValidityTerms
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.jobs.credit_validity import CreditValidityService
from celcombiller.runtime.metrics import Metrics
from tests.support.schedules import drive


def look(folder):
    """Do what a biller with 30 days does at its start."""
    engine = open_engine(f"sqlite:///{folder / 'celcombiller.sqlite'}", lock_seconds=5)

    async def at_once(work):
        return transact(engine, work)

    drive(
        CreditValidityService(
            Clock(),
            ValidityTerms({Kind.VOICE: 30}),
            BalanceStyle(),
            MessagePolicy(),
            transact=at_once,
            read=at_once,
            now=partial(datetime.now, UTC),
            metrics=Metrics(),
        ).look()
    )
    engine.dispose()


def test_a_preview_and_an_extension(ready, here, today):
    (here / "celcombiller.toml").write_text('[schedules]\ntime_zone = "UTC"\n')
    assert ready("credit", "ana", 500)[0] == 0
    status, out, _ = ready("credit-validity", "preview")
    assert (status, "No credit has an end" in out) == (0, True)
    assert "voice_valid_until" not in json.loads(ready("user", "show", "ana", "--json")[1])
    look(here)
    last = str(today + timedelta(days=30))
    assert json.loads(ready("user", "show", "ana", "--json")[1])["voice_valid_until"] == last
    assert json.loads(ready("credit-validity", "preview", "--json")[1]) == []
    (row,) = json.loads(ready("credit-validity", "preview", "--days", 30, "--json")[1])
    assert (row["username"], row["posted"], row["valid_until"]) == ("ana", 500, last)
    assert f"1 account: 500 credits in all until {last}." in ready("credit-validity", "preview", "--days", 30)[1]
    until = today + timedelta(days=90)
    status, out, _ = ready("credit-validity", "extend", "2001", "--until", until)
    assert (status, out) == (0, f"voice credit of ana is valid until {until}.\n")
    said = json.loads(ready("credit-validity", "extend", "ana", "--until", last, "--json")[1])
    assert said == {"username": "ana", "kind": "voice", "valid_until": str(until)}
    assert ready("audit")[0] == 0


def test_wrong_days_are_refused(ready):
    status, _, err = ready("credit-validity", "extend", "ana", "--until", date(2020, 1, 1))
    assert (status, "valid_until must be a day from today" in err) == (3, True)
    assert ready("credit-validity", "extend", "ana", "--until", "soon")[0] == 2
    status, out, _ = ready("credit-validity", "extend", "ana", "--until", date(2100, 1, 1))
    assert (status, "has no end today" in out) == (0, True)
