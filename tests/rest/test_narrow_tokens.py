"""A token never changes what would make it wider: by no route, in no order, whoever owns it."""

from datetime import UTC, datetime

import hypothesis.strategies as st
import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celcombiller.config.tables import Config
from celcombiller.core.access import tokens
from celcombiller.core.access.principal import Principal, Scope
from celcombiller.core.errors import BillerError, Forbidden
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.authorization import check_access
from celcombiller.http.decoding import convert_fields
from celcombiller.http.route import Request
from celcombiller.rest.legacy import balances, memberships, schedules, sms, users
from celcombiller.rest.routes import ROUTES
from tests.support import databases
from tests.support.api_service import PASSWORD, PEOPLE, biller_fixture, people

biller = biller_fixture()

NEW_PASSWORD = "another horse"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def new_person(level):
    return {"level": level, "name": "E", "username": "eve", "password": NEW_PASSWORD, "clid": "66", "imsi": "7654321"}


def by_username(username):
    return {"filters": [{"name": "username", "op": "eq", "val": username}]}


def user_id(username):
    return list(PEOPLE).index(username) + 1


STAFF = {"admin": 0, "clara": 2}
MAKING_STAFF = [
    *(("POST", path, new_person(level)) for path in ("/api/v1/subscribers", "/api/users") for level in STAFF.values()),
    *(("PATCH", f"{path}/ana", {"level": level}) for path in ("/api/v1/subscribers", "/api/users") for level in (0, 2)),
    *((method, "/api/users", {"q": by_username("ana"), "level": 0}) for method in ("PATCH", "PUT")),
]
CHANGING_STAFF = [
    (method, path.format(username), body)
    for username in STAFF
    for method, path, body in (
        ("PATCH", "/api/v1/subscribers/{}", {"password": NEW_PASSWORD}),
        ("PATCH", "/api/v1/subscribers/{}", {"level": 1}),
        ("PATCH", "/api/v1/subscribers/{}", {"enabled": False}),
        ("PATCH", "/api/v1/subscribers/{}", {"username": "eve"}),
        ("DELETE", "/api/v1/subscribers/{}", None),
        ("PATCH", "/api/users/{}", {"password": NEW_PASSWORD}),
        ("PATCH", "/api/users/{}", {"level": 1}),
        ("PATCH", "/api/users", {"q": by_username(username), "password": NEW_PASSWORD}),
        ("PUT", "/api/users", {"q": by_username(username), "password": NEW_PASSWORD}),
        ("DELETE", "/api/users/{}", None),
        ("PATCH", "/api/v1/subscribers/{}/accounts/voice", {"credit_limit": 5}),
        ("POST", "/api/v1/transfers", {"username": username, "kind": "voice", "value": 5}),
        ("POST", "/api/v1/transfers/1/reversal", {"note": "back"}),
        ("POST", "/api/voice_balance", {"from_user_id": user_id(username), "value": 5, "origin": "web"}),
        ("POST", "/api/data_balance", {"user_id": user_id(username), "value": 5, "origin": "web"}),
        ("POST", "/api/v1/schedules/1/members", {"username": username}),
        ("POST", "/api/schedule_user", {"user_id": user_id(username), "schedule_id": 1, "count": 5}),
        ("PATCH", "/api/schedules/gold", {"newUser": [user_id(username)]}),
        ("POST", "/api/schedules", {"name": "new", "day": 1, "users": [user_id(username)]}),
        ("POST", "/api/v1/messages", {"to": "1002", "text": "Hi", "username": username}),
    )
]
CHANGING_KEYS = [
    ("POST", "/api/v1/tokens", {"name": "t", "scopes": ["admin"]}),
    ("DELETE", "/api/v1/tokens/1", None),
    ("PATCH", "/api/v1/subscribers/ana/accounts/voice", {"credit_limit": 5}),
]


async def with_token(biller, owner, *scopes):
    admin = await biller.logged_in("admin")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": scopes, "username": owner})
    client = biller.client()
    client.bearer = made.body["secret"]
    return client


async def ask(client, method, path, body):
    return await client.ask(method, path, body, headers={"Idempotency-Key": f"{method} {path}"})


@pytest.mark.parametrize("owner", STAFF)
@pytest_twisted.ensureDeferred
async def test_a_narrow_token_makes_and_changes_no_staff(biller, owner):
    admin = await biller.logged_in("admin")
    await admin.post("/api/v1/schedules", {"name": "gold", "value": 5, "day": 1})
    credit = {"username": owner, "kind": "voice", "value": 5}
    assert (await ask(admin, "POST", "/api/v1/transfers", credit)).code == 201
    client = await with_token(biller, owner, "write", "agi")
    before = biller.everything()
    for method, path, body in (*MAKING_STAFF, *CHANGING_STAFF, *CHANGING_KEYS):
        answer = await ask(client, method, path, body)
        assert answer.code == 403, f"{method} {path} {body} gave {answer.code} {answer.bytes}"
    assert biller.everything() == before


@pytest.mark.parametrize("path", ["/api/v1/subscribers/{}", "/api/users/{}"])
@pytest.mark.parametrize("owner", ["admin", "clara", "ana"])
@pytest_twisted.ensureDeferred
async def test_only_admin_scope_sets_ones_own_password(biller, owner, path):
    narrow = await with_token(biller, owner, "write", "agi")
    own = path.format(owner)
    answer = await narrow.patch(own, {"password": NEW_PASSWORD})
    assert answer.code == 403
    assert path != "/api/v1/subscribers/{}" or answer.body["code"] == Forbidden.code
    assert (await biller.client().log_in(owner, NEW_PASSWORD)).code == 404
    assert (await narrow.patch(own, {"name": "N", "address": "A"})).code == 200
    whole = await with_token(biller, owner, "admin")
    assert (await whole.patch(own, {"password": NEW_PASSWORD})).code == 200
    session = biller.client()
    assert (await session.log_in(owner, NEW_PASSWORD)).code == 200
    assert (await session.patch(own, {"password": PASSWORD})).code == 200


@pytest.mark.parametrize("owner", STAFF)
@pytest_twisted.ensureDeferred
async def test_a_narrow_staff_token_still_manages_subscribers(biller, owner):
    client = await with_token(biller, owner, "write")
    assert (await client.post("/api/v1/subscribers", new_person(1))).code == 201
    assert (await client.patch("/api/v1/subscribers/ana", {"password": NEW_PASSWORD})).code == 200
    assert (await client.patch("/api/users", {"q": by_username("bia"), "name": "B"})).code == 200
    assert (await biller.client().log_in("eve", NEW_PASSWORD)).code == 200
    credit = {"username": "eve", "kind": "voice", "value": 5}
    assert (await ask(client, "POST", "/api/v1/transfers", credit)).code == 201
    assert (await client.delete("/api/users/eve")).code == 204


@pytest_twisted.ensureDeferred
async def test_a_token_of_admin_scope_manages_staff(biller):
    client = await with_token(biller, "admin", "admin")
    assert (await client.post("/api/v1/subscribers", new_person(0))).code == 201
    assert (await client.patch("/api/users/clara", {"password": NEW_PASSWORD})).code == 200


# -- any sequence ----------------------------------------------------------------------------------------------------

ORIGINAL_BODIES = {
    "POST /sms": sms.NewText,
    "POST /api/users": users.NewUser,
    "PATCH /api/users": users.UserChange,
    "PUT /api/users": users.UserChange,
    "PATCH /api/users/<username>": users.UserChange,
    "POST /api/voice_balance": balances.NewVoice,
    "POST /api/data_balance": balances.NewData,
    "POST /api/schedule": schedules.NewSchedule,
    "PATCH /api/schedule/<row:id>": schedules.ScheduleChange,
    "POST /api/schedules": schedules.NewGroup,
    "PATCH /api/schedules/<name>": schedules.GroupChange,
    "POST /api/schedule_user": memberships.NewMember,
    "PATCH /api/schedule_user": memberships.Renewal,
    "PUT /api/schedule_user": memberships.Renewal,
    "PATCH /api/schedule_user/<row:id>": memberships.MemberChange,
}
WRITING = [route for route in ROUTES if route.who is not None and not route.reads]
PEOPLES_PATHS = {f"{path}{one}" for path in ("/api/v1/subscribers", "/api/users") for one in ("", "/<username>")}
OF_PEOPLE = [route for route in WRITING if route.path in PEOPLES_PATHS]
ADMINISTRATORS_ONLY = [route for route in ROUTES if route.who is not None and route.who.scope is Scope.ADMIN]

PASSWORDS = ("secret one", "secret two")
usernames = st.sampled_from([*PEOPLE, "eve", "eva"])
passwords = st.sampled_from(PASSWORDS)
row_ids = st.integers(1, 6)
FIELDS = {
    "username": usernames,
    "password": passwords,
    "level": st.sampled_from([0, 0, 1, 2]),
    "clid": st.integers(1001, 1040).map(str),
    "imsi": st.integers(1001, 1040).map(lambda number: f"72400000000{number}"),
    "cpf": st.none(),
    "kind": st.sampled_from(["voice", 1]),
    "scopes": st.lists(st.sampled_from([scope.value for scope in Scope]), min_size=1, max_size=2),
    "recurrence": st.just("monthly"),
    "enabled": st.booleans(),
    "users": st.lists(row_ids, max_size=2),
    "newUser": st.lists(row_ids, max_size=2),
    "removeUser": st.lists(row_ids, max_size=2),
    "name": st.sampled_from(["eve", "gold"]),
    "to": st.just("1002"),
    **dict.fromkeys(("user_id", "from_user_id", "schedule_id", "id"), row_ids),
    **dict.fromkeys(("value", "count", "months", "number", "credit_limit", "day"), st.integers(1, 5)),
    **dict.fromkeys(("note", "origin", "address", "text", "msg"), st.just("word")),
}
PATHS = {"id": row_ids, "kind": st.just("voice"), "name": st.just("gold")}


def bodies(route):
    """Return bodies that a route understands. Raise `KeyError` for a new route, or a new field that it needs."""
    if route.body is None and not route.takes_body:
        return st.none()
    fields = msgspec.structs.fields(route.body or ORIGINAL_BODIES[route.name])
    needed = {each.name: FIELDS[each.name] for each in fields if each.required}
    if route.name in ("PATCH /api/users", "PUT /api/users"):
        needed["q"] = usernames.map(by_username)
    more = [name for name in ("level", "password", *FIELDS) if name in {each.name for each in fields} - needed.keys()]
    chosen = st.sets(st.sampled_from(more), max_size=2) if more else st.just(())
    return chosen.flatmap(lambda names: st.fixed_dictionaries(needed | {name: FIELDS[name] for name in sorted(names)}))


BODIES = {route.name: bodies(route) for route in WRITING}


class Here:
    """The two ways to the database, on one transaction."""

    def __init__(self, tx):
        self.tx = tx
        self.store = self.reader = self

    async def transact(self, work):
        return work(self.tx)

    read = transact


@pytest.fixture(scope="module", autouse=True)
def ledger():
    """Make one ledger for all sequences: each is undone at its end."""
    engine = databases.sqlite(fill=people)
    NarrowTokenMachine.engine = engine
    yield
    engine.dispose()


class NarrowTokenMachine(RuleBasedStateMachine):
    """Whoever has a token that writes, whatever they ask, with it or logged in by a password that they have set.

    A password's hash is the password itself here.
    """

    engine = None

    @initialize(owner=st.sampled_from(["admin", "admin", "clara", "ana"]))
    def begin(self, owner):
        self.tx = self.engine.connect()
        self.sequence = self.tx.begin()
        self.owner_id = subscriber_records.find(self.tx, owner).id
        given = {"name": "t", "scopes": [Scope.WRITE], "expires_at": None, "now": NOW}
        tokens.make_token(self.tx, "token", self.owner_id, **given)
        self.untouchable = self.read_untouchable()

    def teardown(self):
        self.sequence.rollback()
        self.tx.close()

    def read_untouchable(self):
        """Return the staff, the password of the token's owner, the credit limits and the tokens."""
        person, account, token = tables.subscriber, tables.account, tables.token
        kept = [person.c[name] for name in ("id", "username", "level", "password_hash", "enabled", "deleted_at")]
        staff = sa.select(*kept).where(person.c.level != Level.SUBSCRIBER).order_by(person.c.id)
        own = sa.select(person.c.password_hash).where(person.c.id == self.owner_id)
        floors = sa.select(account.c.id, account.c.floor).where(account.c.floor != 0)
        return [self.tx.execute(each).all() for each in (staff, own, floors, sa.select(token))]

    def principals(self):
        """Return the token's, and one for each session that a password of the sequence opens."""
        person = tables.subscriber
        opened = sa.select(person.c.id, person.c.username, person.c.level).where(
            person.c.password_hash.in_(PASSWORDS), person.c.enabled, subscriber_records.NOT_DELETED
        )
        sessions = [Principal(row.id, row.username, Level(row.level)) for row in self.tx.execute(opened)]
        token = tokens.by_token(self.tx, "token", NOW)
        return sessions if token is None else [token, *sessions]

    @rule(data=st.data(), route=st.sampled_from(OF_PEOPLE) | st.sampled_from(WRITING))
    def write(self, data, route):
        who = data.draw(st.sampled_from(self.principals()))
        paths = PATHS | {"username": usernames | st.just(who.username)}
        path = {name: data.draw(values) for name, values in paths.items() if f"{{{name}}}" in route.open_path}
        body = data.draw(BODIES[route.name])
        request = self.tx.begin_nested()
        try:
            check_access(who, route.who, path)
            asked = Request(
                config=Config(),
                who=who,
                path=path,
                query=None,
                body=body if route.body is None else convert_fields(route.body, body),
                now=NOW,
                address="10.0.0.1",
                base_url="http://x",
                url="http://x",
                password_hash=(body or {}).get("password"),
            )
            self.answer(route, asked)
        except BillerError:
            request.rollback()
        else:
            request.commit()

    def answer(self, route, asked):
        if route.do is not None:
            route.do(self.tx, asked)
        else:
            with pytest.raises(StopIteration):
                route.serve(Here(self.tx), None, asked).send(None)

    @invariant()
    def nobody_reaches_an_admin_answer(self):
        for who in self.principals():
            for route in ADMINISTRATORS_ONLY:
                with pytest.raises(Forbidden):
                    check_access(who, route.who, {})

    @invariant()
    def staff_own_password_limits_and_tokens_stay(self):
        assert self.read_untouchable() == self.untouchable


TestNarrowTokens = NarrowTokenMachine.TestCase
TestNarrowTokens.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
