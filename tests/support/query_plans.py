"""How the database means to do what it is asked: its plan, asked for in place of the rows; and calls to plan for."""

import contextlib
import itertools
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from celcombiller.core.model.calls import CallState
from celcombiller.core.reports import history
from celcombiller.core.reports.history import CallCriteria
from celcombiller.core.schema import tables

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def plans_of(engine, work):
    """Run ``work`` on a transaction whose every statement gives its plan; give the lines of them all."""
    words = "explain query plan " if engine.dialect.name == "sqlite" else "explain "
    lines = []

    class Planned(Exception):
        """The statement gave its plan; there are no rows to go on with."""

    with engine.connect() as tx:

        @sa.event.listens_for(tx, "before_cursor_execute", retval=True)
        def _ask(_connection, _cursor, statement, parameters, _context, _many):
            return (words + statement if statement.startswith("SELECT") else statement), parameters

        @sa.event.listens_for(tx, "after_cursor_execute")
        def _keep(_connection, cursor, statement, *_more):
            if statement.startswith(words):
                lines.extend(row[-1] for row in cursor.fetchall())
                raise Planned

        with contextlib.suppress(Planned):
            work(tx)
    return lines


def record_calls(tx, count, *, subscribers, note=""):
    """Record calls a minute apart, bulk, of these (subscriber, account) in turn; few are open, few expired."""
    rows = [
        {
            "reference": f"call:pbx:{n}:0",
            "server": "pbx2" if n % 100 == 0 else "pbx1",
            "uniqueid": f"{n}",
            "leg": 0,
            "authorization": f"a{n}",
            "channel": f"PJSIP/{n}",
            "subscriber_id": subscribers[n % len(subscribers)][0],
            "account_id": subscribers[n % len(subscribers)][1],
            "from_number": str(1000 + n % 7),
            "to_number": "2001",
            "rate_prefix": "",
            "rate_name": "",
            "connect_fee": 0,
            "price": 1,
            "increment_seconds": 1,
            "granted_seconds": 60,
            "answered_early": False,
            "started_at": BEGUN + timedelta(minutes=n),
            "state": (state := _state(n, count)),
            "talk_ms": None if state == "open" else 0,
            "cost": None if state == "open" else 0,
            "witness": None if state == "open" else "agi",
            "note": note,
        }
        for n in range(count)
    ]
    tx.execute(sa.insert(tables.call), rows)


def _state(n, count):
    if n >= count - 20:
        return "open"
    if n % 1000 == 0:
        return "expired"
    return ["settled", "released"][n % 2]


def every_question():
    """Give every combination of filters of calls, with a page before it and without."""
    at = BEGUN + timedelta(minutes=500)
    given = {"since": at - timedelta(minutes=200), "until": at, "subscriber_id": 2, "server": "pbx2"}
    for state in (None, *CallState):
        for size in range(len(given) + 1):
            for names in itertools.combinations(given, size):
                for after in (None, (at, 5)):
                    yield CallCriteria(state=state, **{name: given[name] for name in names}), after


def calls_plan(engine, wanted, after):
    return plans_of(engine, lambda tx: history.list_calls(tx, wanted, limit=51, after=after))
