"""What the original's search language means, said once more in plain Python: for its contract tests on each database.

`fill` makes subscribers and movements that are awkward on purpose; `rows_of` gives them as the API shows them, and
`expected` what a list must answer for any ``q``.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import cmp_to_key

import hypothesis.strategies as st
import sqlalchemy as sa

from celcombiller.config.tables import Config
from celcombiller.core.access.principal import Principal
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.route import Request
from celcombiller.legacy_import.source_rows import KINDS
from celcombiller.rest.legacy import balances, users
from celcombiller.rest.legacy import memberships as legacy_memberships
from celcombiller.rest.legacy import schedules as legacy_schedules
from celcombiller.rest.legacy.collections import answer_list

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
COLLECTIONS = {
    "users": users.COLLECTION,
    "voice_balance": balances.VOICE,
    "data_balance": balances.DATA,
    "schedule": legacy_schedules.BY_ID,
    "schedules": legacy_schedules.BY_NAME,
    "schedule_user": legacy_memberships.MEMBERS,
    "schedule_contract": legacy_memberships.CONTRACTS,
    "schedule_input": legacy_memberships.INPUTS,
}
NAMES = (
    "Ana",
    "ana",
    "ANA MARIA",
    "Á",
    "á",
    "a%b",
    "a_b",
    "a\\b",
    "\\",
    "100%",
    "z",
    "Z",
    "~",
    "é",
    "ñandú",
    "日本",
    "😀",
    "_",
)
WHOLE, DIGITS, TEXT, INSTANT = "whole", "digits", "text", "instant"
SHAPES = {
    "users": {
        "_id": WHOLE,
        "level": WHOLE,
        "name": TEXT,
        "address": TEXT,
        "cpf": DIGITS,
        "username": TEXT,
        "clid": TEXT,
        "imsi": TEXT,
        "voice_balance": WHOLE,
        "data_balance": WHOLE,
    },
    "voice_balance": {
        "_id": WHOLE,
        "from_user_id": WHOLE,
        "to_user_id": WHOLE,
        "value": WHOLE,
        "date": INSTANT,
        "origin": TEXT,
        "to_user_clid": TEXT,
    },
    "data_balance": {
        "_id": WHOLE,
        "user_id": WHOLE,
        "date": INSTANT,
        "value": WHOLE,
        "user_ip": TEXT,
        "connection_ip": TEXT,
        "origin": TEXT,
    },
}
SHAPES["schedule"] = {"_id": WHOLE, "name": TEXT, "day": WHOLE, "value": WHOLE, "kind": WHOLE}
SHAPES["schedules"] = SHAPES["schedule"]
SHAPES["schedule_user"] = dict.fromkeys(("_id", "user_id", "schedule_id", "count", "day", "value", "kind"), WHOLE)
SHAPES["schedule_user"]["schedule_name"] = TEXT
SHAPES["schedule_contract"] = {"_id": WHOLE, "schedule_user_id": WHOLE, "date": INSTANT, "months": WHOLE}
SHAPES["schedule_input"] = dict.fromkeys(("_id", "schedule_id", "voice_balance_id", "data_balance_id"), WHOLE)
OWNERS = {"users": "_id", "voice_balance": "from_user_id", "data_balance": "user_id", "schedule_user": "user_id"}
SYNONYMS = {
    "eq": ("==", "eq", "equals", "equal_to"),
    "ne": ("!=", "ne", "neq", "not_equal_to", "does_not_equal"),
    "gt": (">", "gt"),
    "lt": ("<", "lt"),
    "ge": (">=", "ge", "gte", "geq"),
    "le": ("<=", "le", "lte", "leq"),
    "like": ("like", "ilike"),
    "in": ("in",),
    "not_in": ("not_in",),
    "is_null": ("is_null",),
    "is_not_null": ("is_not_null",),
}
"""Of original-behaviour.md, 5.2."""

MEANING = {word: operator for operator, words in SYNONYMS.items() for word in words}


# -- what there is ---------------------------------------------------------------------------------------------------


def fill(tx):
    """Make the subscribers and the movements; straight into the tables, as any program may have."""
    accounts = {}
    for number, name in enumerate(NAMES, 1):
        subscriber_records.add(
            tx,
            username=f"u{number}" if number % 2 else f"U{number}",
            name=name,
            clid=str(9000 + number),
            imsi=f"0010100000{number:05}",
            cpf=None if number % 5 == 0 else str(number % 7).zfill(number % 3 + 1) + str(number),
            address=NAMES[-number] if number % 4 else "",
            level=Level(number % 3),
            password_hash=None,
            now=NOW,
        )
    table = tables.account
    for row in tx.execute(sa.select(table).where(table.c.subscriber_id.is_not(None)).order_by(table.c.id)):
        accounts[row.subscriber_id, Kind(row.kind)] = row.id
        tx.execute(sa.update(table).where(table.c.id == row.id).values(posted=(row.subscriber_id * 7) % 5))
    subscriber_records.delete(tx, "U4", NOW)
    for number in range(1, 41):
        _movement(tx, number, accounts)
    for number in range(1, 10):
        _group(tx, number)
    schedule_records.delete(tx, 3, NOW)


def _group(tx, number):
    weekly = number % 4 == 0
    schedule = schedule_records.add(
        tx,
        name=NAMES[number % 7],
        kind=number % 3 + 1,
        value=number % 4,
        recurrence="weekly" if weekly else "monthly",
        day=number % 6 + 1,
        interval_days=None,
        first_on=NOW.date(),
        count=number,
        time_zone="UTC",
        now=NOW,
    )
    for subscriber_id in range(1, number % 4 + 1):
        member = memberships.join(tx, schedule, subscriber_id, count=(number * subscriber_id) % 5, now=NOW)
        at = NOW + timedelta(hours=subscriber_id)
        if number % 2:
            member = memberships.renew(tx, member, count=subscriber_id, months=number % 3, now=at)
        moved = {f"{kind}_reference": f"id:{number % 8 + kind_number}" for kind_number, kind in enumerate(KINDS, 1)}
        if number % 3 == 0:
            moved["data_reference"] = None
        outcome = ("credited", "credited", "passed", "failed")[subscriber_id % 4]
        tx.execute(
            sa.insert(tables.schedule_credit).values(
                schedule_id=schedule.id,
                subscriber_id=subscriber_id,
                due_on=NOW.date(),
                membership_id=member.id,
                outcome=outcome,
                at=NOW,
                **(moved if outcome == "credited" else {}),
            )
        )
        if (number, subscriber_id) in ((2, 1), (7, 3)):
            memberships.leave(tx, member, NOW)


def _movement(tx, number, accounts):
    kind = Kind.VOICE if number % 3 else Kind.DATA
    mine, theirs = accounts[number % 7 + 1, kind], tables.OPERATOR_ACCOUNT_IDS[kind]
    debit, credit = (mine, theirs) if number % 2 else (theirs, mine)
    reference = f"call:pbx1:{number}:0" if number % 10 == 0 else f"id:{number}"
    at = NOW + timedelta(minutes=number % 9, microseconds=number % 2)
    tx.execute(
        sa.insert(tables.transfer).values(
            reference=reference,
            debit_account_id=debit,
            credit_account_id=credit,
            amount=number % 6 + 1,
            origin=("web", "call", "Schedule")[number % 3],
            at=at,
        )
    )
    if number % 10 == 0:
        _call(tx, number, reference, mine)
    elif number % 4 == 0:
        said_at = at - timedelta(days=400) if number % 8 else None
        to = number % 5 + 1 if kind is Kind.VOICE else None
        ips = (f"10.0.0.{number}", None) if kind is Kind.DATA else (None, None)
        tx.execute(
            sa.insert(tables.transfer_detail).values(
                reference=reference, to_subscriber_id=to, said_at=said_at, user_ip=ips[0], connection_ip=ips[1]
            )
        )


def _call(tx, number, reference, account_id):
    tx.execute(
        sa.insert(tables.call).values(
            reference=reference,
            server="pbx1",
            uniqueid=str(number),
            leg=0,
            authorization="a",
            channel="c",
            subscriber_id=1,
            account_id=account_id,
            from_number="1",
            to_number="2",
            callee_id=2 if number % 20 else None,
            rate_prefix="",
            rate_name="",
            connect_fee=0,
            price=1,
            increment_seconds=1,
            granted_seconds=1,
            answered_early=False,
            started_at=NOW,
            state="open",
        )
    )


def rows_of(tx):
    """Give all that each collection holds, each row as it is shown, but times as times; of plain look-ups only."""
    people = {row.id: row for row in tx.execute(sa.select(tables.subscriber))}
    accounts = {row.id: row for row in tx.execute(sa.select(tables.account))}
    details = {row.reference: row for row in tx.execute(sa.select(tables.transfer_detail))}
    calls = {row.reference: row for row in tx.execute(sa.select(tables.call))}
    posted = {(row.subscriber_id, row.kind): row.posted for row in accounts.values()}
    found = {"users": [], "voice_balance": [], "data_balance": []}
    for row in people.values():
        if row.deleted_at is None:
            shown = {name: getattr(row, name) for name in ("level", "name", "address", "username", "clid", "imsi")}
            shown |= {"_id": row.id, "cpf": None if row.cpf is None else int(row.cpf)}
            shown |= {f"{kind}_balance": posted[row.id, kind] for kind in KINDS}
            found["users"].append(shown)
    for row in tx.execute(sa.select(tables.transfer)):
        operator_pays = row.debit_account_id in (1, 2)
        account = accounts[row.credit_account_id if operator_pays else row.debit_account_id]
        detail, call = details.get(row.reference), calls.get(row.reference)
        said_at = detail and detail.said_at
        shown = {"_id": row.id, "value": row.amount if operator_pays else -row.amount, "origin": row.origin}
        shown["date"] = said_at or row.at
        if account.kind == Kind.VOICE:
            to = (detail and detail.to_subscriber_id) or (call and call.callee_id)
            shown |= {"from_user_id": account.subscriber_id, "to_user_id": to}
            shown["to_user_clid"] = to and people[to].clid
        else:
            shown |= {"user_id": account.subscriber_id, "user_ip": detail and detail.user_ip}
            shown["connection_ip"] = detail and detail.connection_ip
        found[f"{account.kind}_balance"].append(shown)
    return found | _groups_of(tx)


def _groups_of(tx):
    all_of = {
        table.name: {row.id: row for row in tx.execute(sa.select(table))}
        for table in (tables.schedule, tables.membership, tables.contract, tables.schedule_credit)
    }
    transfers = {row.reference: row.id for row in tx.execute(sa.select(tables.transfer))}
    living = {}
    for row in all_of["schedule"].values():
        if row.deleted_at is None:
            day = row.day if row.recurrence == "monthly" else None
            living[row.id] = {"_id": row.id, "name": row.name, "day": day, "value": row.value, "kind": row.kind}
    found = {"schedule": list(living.values()), "schedules": list(living.values())}
    found["schedule_user"] = [
        {
            **living[row.schedule_id],
            "_id": row.id,
            "user_id": row.subscriber_id,
            "schedule_id": row.schedule_id,
            "count": row.count,
            "schedule_name": living[row.schedule_id]["name"],
        }
        for row in all_of["membership"].values()
        if row.ended_at is None and row.schedule_id in living
    ]
    for row in found["schedule_user"]:
        del row["name"]
    found["schedule_contract"] = [
        {"_id": row.id, "schedule_user_id": row.membership_id, "date": row.at, "months": row.months}
        for row in all_of["contract"].values()
    ]
    found["schedule_input"] = [
        {
            "_id": row.id,
            "schedule_id": row.schedule_id,
            "voice_balance_id": transfers.get(row.voice_reference),
            "data_balance_id": transfers.get(row.data_reference),
        }
        for row in all_of["schedule_credit"].values()
        if row.outcome == "credited"
    ]
    return found


# -- what a search means ---------------------------------------------------------------------------------------------


def expected(rows, shapes, q, page=1, per_page=100):
    """Give the body of the list, or of the single object, or what the refusal says."""
    found = [row for row in rows if all(holds(row, shapes, each) for each in q.get("filters", []))]
    if q.get("group_by"):
        firsts = {}
        for row in sorted(found, key=lambda row: row["_id"]):
            firsts.setdefault(tuple(row[each["field"]] for each in q["group_by"]), row)
        found = list(firsts.values())
    found = sorted(found, key=cmp_to_key(lambda one, other: _order(one, other, shapes, q.get("order_by", []))))
    found = found[q.get("offset") or 0 :]
    if q.get("limit"):
        found = found[: q["limit"]]
    if q.get("single"):
        if len(found) != 1:
            return {"message": "Multiple results found" if found else "No result found"}
        return shown(found[0])
    objects = found[(page - 1) * per_page : page * per_page] if page > 0 else []
    pages = (len(found) + per_page - 1) // per_page
    return {"num_results": len(found), "objects": list(map(shown, objects)), "page": page, "total_pages": pages}


def holds(row, shapes, said):  # noqa: PLR0911  one way out for each kind of filter
    if "or" in said:
        return any(holds(row, shapes, each) for each in said["or"])
    if "and" in said:
        return all(holds(row, shapes, each) for each in said["and"])
    mine, operator = row[said["name"]], MEANING[said["op"]]
    shape = shapes[said["name"]]
    if operator in ("is_null", "is_not_null"):
        return (mine is None) == (operator == "is_null")
    if mine is None:
        return False
    if operator == "like":
        return matches(str(mine), str(said["val"]))
    if operator in ("in", "not_in"):
        return (mine in [meant(shape, each) for each in said["val"]]) == (operator == "in")
    theirs = row[said["field"]] if "field" in said else meant(shape, said["val"])
    if theirs is None:
        return False
    mine, theirs = sortable(mine), sortable(theirs)
    compared = {"eq": mine == theirs, "ne": mine != theirs, "gt": mine > theirs, "lt": mine < theirs}
    return (compared | {"ge": mine >= theirs, "le": mine <= theirs})[operator]


def meant(shape, value):
    if shape in (WHOLE, DIGITS):
        return int(value)
    if shape == TEXT:
        return str(value)
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.astimezone()


def matches(text, pattern):
    def folded(word):
        return "".join(each.lower() if each.isascii() else each for each in word)

    words = {"%": ".*", "_": "."}
    return re.fullmatch(
        "".join(words.get(each) or re.escape(each) for each in folded(pattern)), folded(text), re.DOTALL
    )


def sortable(value):
    return value.encode() if isinstance(value, str) else value


def _order(one, other, shapes, order_by):
    for said in [*order_by, {"field": "_id"}]:
        pair = [row[said["field"]] for row in (one, other)]
        first, second = ((value is not None, sortable(value) if value is not None else 0) for value in pair)
        if first != second:
            return (-1 if first < second else 1) * (-1 if said.get("direction") == "desc" else 1)
    return 0


def shown(row):
    def written(value):
        if isinstance(value, datetime):
            return value.astimezone().strftime("%Y-%m-%dT%H:%M:%S.%f")
        return value

    listed = {"to_user_clid"} | ({"day"} if "schedule_name" in row else set())
    return {name: written(value) for name, value in row.items() if name not in listed or value is not None}


# -- searches --------------------------------------------------------------------------------------------------------


def values(shape, rows, name):
    """Draw a value for a field: mostly one that is there, in any way in which a client may write it."""
    there = [row[name] for row in rows if row[name] is not None] or ["x" if shape == TEXT else 1]
    if shape in (WHOLE, DIGITS):
        numbers = st.sampled_from([each for each in there if isinstance(each, int)] or [1]) | st.integers(-5, 60)
        return (numbers | st.sampled_from([2**63 - 1, -(2**63) + 1])).flatmap(
            lambda each: st.sampled_from([each, str(each)])
        )
    if shape == TEXT:
        return st.sampled_from([str(each) for each in there]) | st.sampled_from(NAMES) | st.integers(9000, 9020)
    zones = st.sampled_from([UTC, timezone(timedelta(hours=-3)), timezone(timedelta(hours=5, minutes=30)), None])
    instants = st.builds(
        lambda each, shift, zone: (each + timedelta(microseconds=shift)).astimezone(zone),
        st.sampled_from([each for each in there if isinstance(each, datetime)] or [NOW]),
        st.sampled_from([-1, 0, 1]),
        zones,
    )
    return instants.flatmap(lambda each: st.sampled_from(_written(each)))


def _written(instant):
    iso = instant.isoformat()
    naive = instant.astimezone().replace(tzinfo=None)
    zulu = instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return [iso, zulu, naive.isoformat(), naive.isoformat(" ")]


patterns = st.lists(st.sampled_from([*"aAáz%_\\B0129", "ana", "日"]), max_size=5).map("".join)


@st.composite
def comparisons(draw, shapes, rows, *, operators=tuple(SYNONYMS)):
    operator = draw(st.sampled_from(operators))
    name = draw(st.sampled_from([each for each in sorted(shapes) if (operator, shapes[each]) != ("like", INSTANT)]))
    shape = shapes[name]
    made = {"name": name, "op": draw(st.sampled_from(SYNONYMS[operator]))}
    drawn = values(shape, rows, name)
    if operator in ("is_null", "is_not_null"):
        return made
    if operator == "like":
        return made | {"val": draw(patterns | drawn.map(str))}
    if operator in ("in", "not_in"):
        return made | {"val": draw(st.lists(drawn, max_size=4))}
    alike = {WHOLE: (WHOLE, DIGITS), DIGITS: (WHOLE, DIGITS)}.get(shape, (shape,))
    if draw(st.integers(0, 4)) == 0:
        return made | {"field": draw(st.sampled_from([each for each in shapes if shapes[each] in alike]))}
    return made | {"val": draw(drawn)}


def searches(shapes, rows):
    names = st.sampled_from(sorted(shapes))
    filters = st.recursive(
        comparisons(shapes, rows),
        lambda inner: st.builds(
            lambda word, each: {word: each}, st.sampled_from(["or", "and"]), st.lists(inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )
    orders = st.builds(
        lambda field, direction: {"field": field} | ({"direction": direction} if direction else {}),
        names,
        st.sampled_from(["asc", "desc", ""]),
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "filters": st.lists(filters, max_size=3),
            "order_by": st.lists(orders, max_size=3),
            "group_by": st.lists(st.builds(lambda field: {"field": field}, names), max_size=2),
            "limit": st.integers(0, 20),
            "offset": st.integers(0, 10),
            "single": st.booleans(),
            "disjunction": st.booleans(),
        },
    )


def asked(query, *, subscriber_id=1, level=Level.ADMINISTRATOR, **more):
    """Make what a handler is asked."""
    facts = {"config": Config(), "path": {}, "body": None, "now": NOW, "address": "127.0.0.1", "base_url": "http://h"}
    who = Principal(subscriber_id, "u1", level)
    return Request(**facts | {"url": "http://h/api/things?x=1", "who": who, "query": query} | more)


def ask(tx, name, query, **more):
    """Give the answer of one collection."""
    return answer_list(tx, asked(query, **more), COLLECTIONS[name])
