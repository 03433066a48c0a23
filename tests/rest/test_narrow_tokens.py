"""What a principal may not change stays as it is: by no route, in no order, whichever credential they have."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import hypothesis.strategies as st
import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celcombiller.config.tables import Config
from celcombiller.core.access import sessions, tokens
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.changes import schedule_changes
from celcombiller.core.access.changes.subscriber_changes import NewPassword
from celcombiller.core.access.principal import Principal, Scope
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import BillerError, Forbidden
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.authorization import check_access
from celcombiller.http.decoding import convert_fields
from celcombiller.http.route import Request
from celcombiller.rest.legacy import balances, memberships, schedules, sms, users
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.metrics import Metrics
from tests.core.payments import test_payment_properties
from tests.support import databases
from tests.support.http.api_service import PASSWORD, PEOPLE, biller_fixture, people
from tests.support.properties import share

biller = biller_fixture()

NEW_PASSWORD = "another horse"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def new_person(level):
    return {"level": level, "name": "E", "username": "eve", "password": NEW_PASSWORD, "clid": "66", "imsi": "7654321"}


def by_username(username):
    return {"filters": [{"name": "username", "op": "eq", "val": username}]}


def user_id(username):
    return list(PEOPLE).index(username) + 1


def membership_of(username):
    of_gold = {"name": "schedule_id", "op": "eq", "val": 1}
    return {"filters": [of_gold, {"name": "user_id", "op": "eq", "val": user_id(username)}]}


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
        ("POST", "/api/v1/payments/1/reversal", {"note": "back"}),
        ("POST", "/api/v1/payments/2/assignment", {"username": username}),
        ("POST", "/api/v1/credit-transfers", {"username": username, "to": "1002", "amount": 5}),
        ("POST", f"/api/v1/sellers/{username}/sales", {"to": "1002", "amount": 5}),
        ("POST", f"/api/v1/sellers/{username}/refills", {"amount": 5}),
        ("PUT", "/api/v1/subscribers/{}/pin", {"pin": "4071"}),
        ("DELETE", "/api/v1/subscribers/{}/pin", None),
        ("POST", "/api/voice_balance", {"from_user_id": user_id(username), "value": 5, "origin": "web"}),
        ("POST", "/api/data_balance", {"user_id": user_id(username), "value": 5, "origin": "web"}),
        ("POST", "/api/v1/schedules/2/members", {"username": username}),
        ("POST", "/api/schedule_user", {"user_id": user_id(username), "schedule_id": 2, "count": 5}),
        ("PATCH", "/api/schedules/silver", {"newUser": [user_id(username)]}),
        ("PATCH", "/api/v1/schedules/1/members/{}", {"count": 5}),
        ("POST", "/api/v1/schedules/1/members/{}/renewals", {"count": 5, "months": 5}),
        ("DELETE", "/api/v1/schedules/1/members/{}", None),
        ("PATCH", f"/api/schedule_user/{list(STAFF).index(username) + 1}", {"count": 5}),
        ("PATCH", "/api/schedule_user", {"q": membership_of(username), "count": 5, "number": 5}),
        ("PUT", "/api/schedule_user", {"q": membership_of(username), "count": 5, "number": 5}),
        ("DELETE", f"/api/schedule_user/{list(STAFF).index(username) + 1}", None),
        ("PATCH", "/api/schedules/gold", {"removeUser": [user_id(username)]}),
        ("POST", "/api/schedules", {"name": "new", "day": 1, "users": [user_id(username)]}),
        ("POST", "/api/v1/messages", {"to": "1002", "text": "Hi", "username": username}),
    )
]


def own_things(owner):
    """Return what anyone may do for themselves: sell from their own stock, set their PIN with the old one."""
    return {("POST", f"/api/v1/sellers/{owner}/sales"), ("PUT", f"/api/v1/subscribers/{owner}/pin")}


CHANGING_SCHEDULES = [
    ("PATCH", "/api/v1/schedules/1", {"value": 9}),
    ("PATCH", "/api/v1/schedules/1", {"enabled": False}),
    ("DELETE", "/api/v1/schedules/1", None),
    ("PATCH", "/api/schedule/1", {"value": 9}),
    ("DELETE", "/api/schedule/1", None),
    ("PATCH", "/api/schedules/gold", {"value": 9}),
    ("DELETE", "/api/schedules/gold", None),
]
CHANGING_KEYS = [
    ("POST", "/api/v1/tokens", {"name": "t", "scopes": ["admin"]}),
    ("DELETE", "/api/v1/tokens/1", None),
    ("PATCH", "/api/v1/subscribers/ana/accounts/voice", {"credit_limit": 5}),
    ("POST", "/api/v1/sellers", {"username": "ana", "commission": "bonus", "commission_rate": 5}),
    ("PATCH", "/api/v1/sellers/ana", {"credit_line": 5}),
]


async def with_token(biller, owner, *scopes):
    admin = await biller.logged_in("admin")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": scopes, "username": owner})
    client = biller.client()
    client.bearer = made.body["secret"]
    return client


async def ask(client, method, path, body):
    return await client.ask(method, path, body, headers={"Idempotency-Key": f"{method} {path}"})


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "scopes"), [("admin", ["write", "agi"]), ("clara", ["write"]), ("clara", None)])
@pytest_twisted.ensureDeferred
async def test_who_does_not_administer_changes_no_staff(biller, owner, scopes):
    admin = await biller.logged_in("admin")
    for name in ("gold", "silver"):
        assert (await admin.post("/api/v1/schedules", {"name": name, "value": 5, "day": 1})).code == 201
    for username in STAFF:
        assert (await admin.post("/api/v1/schedules/1/members", {"username": username})).code == 201
        assert (await admin.post("/api/v1/sellers", {"username": username})).code == 201
    credit = {"username": owner, "kind": "voice", "value": 5}
    assert (await ask(admin, "POST", "/api/v1/transfers", credit)).code == 201
    with biller.engine.begin() as tx:
        pay(tx)
    client = await biller.logged_in(owner) if scopes is None else await with_token(biller, owner, *scopes)
    before = biller.everything()
    for method, path, body in (*MAKING_STAFF, *CHANGING_STAFF, *CHANGING_SCHEDULES, *CHANGING_KEYS):
        own = scopes is None and path.endswith(owner) and body == {"password": NEW_PASSWORD}
        own = own or (method, path) in own_things(owner)
        if own or ((body or {}).get("q") == by_username(owner) and scopes is None):
            continue  # a session may change its own password
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
    new = {"password": NEW_PASSWORD, "old_password": PASSWORD}
    assert (await whole.patch(own, new)).code == 200
    session = biller.client()
    assert (await session.log_in(owner, NEW_PASSWORD)).code == 200
    assert (await session.patch(own, {"password": PASSWORD, "old_password": NEW_PASSWORD})).code == 200


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
READING = [route for route in ROUTES if route.who is not None and route.reads and route.do is not None]
RISKY = [route for route in WRITING if any(word in route.path for word in ("subscribers", "users", "schedule"))]
ADMINISTRATORS_ONLY = [route for route in ROUTES if route.who is not None and route.who.scope is Scope.ADMIN]

OLD = "an old secret"
PASSWORDS = ("one new secret", "two new secrets")
usernames = st.sampled_from([*PEOPLE, "eve", "eva"])
passwords = st.sampled_from(PASSWORDS)
row_ids = st.integers(1, 6)
FIELDS = {
    "username": usernames,
    "password": passwords,
    "old_password": passwords | st.just(OLD),
    "current_password": passwords | st.just(OLD),
    "level": st.sampled_from([0, 0, 1, 2]),
    "clid": st.integers(1001, 1040).map(str),
    "imsi": st.integers(1001, 1040).map(lambda number: f"72400000000{number}"),
    "cpf": st.none(),
    "cards": st.just(1),
    "kind": st.sampled_from(["voice", 1, "seconds"]),
    "scopes": st.lists(st.sampled_from([scope.value for scope in Scope]), min_size=1, max_size=2),
    "recurrence": st.just("monthly"),
    "enabled": st.booleans(),
    "revoke_tokens": st.booleans(),
    "users": st.lists(row_ids, max_size=2),
    "newUser": st.lists(row_ids, max_size=2),
    "removeUser": st.lists(row_ids, max_size=2),
    "name": st.sampled_from(["eve", "gold", "silver"]),
    "to": st.just("1002"),
    "code": st.just("123456"),
    "pin": st.sampled_from(["4071", "9318"]),
    "secret": st.just("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"),
    "renews": st.booleans(),
    "seconds": st.integers(0, 90),
    "dial": st.just("PJSIP/{number}@north"),
    "prefix": st.sampled_from(["", "55"]),
    "trunks": st.just([{"trunk_id": 1}]),
    **dict.fromkeys(("user_id", "from_user_id", "schedule_id", "offer_id", "group_id", "id"), row_ids),
    **dict.fromkeys(
        ("value", "count", "months", "number", "credit_limit", "day", "price", "amount", "valid_hours"),
        st.integers(1, 5),
    ),
    **dict.fromkeys(("to_number", "from_number"), st.just("1002")),
    **dict.fromkeys(("note", "origin", "address", "text", "msg", "reason"), st.just("word")),
}
PATHS = {
    "receipt": st.just("S2-000001"),
    "id": row_ids,
    "number": row_ids,
    "kind": st.just("voice"),
    "name": st.sampled_from(["gold", "silver"]),
}


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


BODIES = {route.name: bodies(route) for route in (*WRITING, *(each for each in READING if each.body is not None))}


class Here:
    """The API's ways to the database, on one transaction, which nothing changes meanwhile."""

    def __init__(self, tx):
        self.tx = tx
        self.store = self.reader = self.passwords = self
        self.radio = {}
        self.metrics = Metrics()

    async def read(self, work):
        return work(self.tx)

    async def transact(self, request, work):
        return work(self.tx, request)

    async def share(self, work, item):
        (result,) = work(self.tx, [item])
        if isinstance(result, BillerError):
            raise result
        return result

    def readmit(self, _tx, request):
        return request

    async def hash(self, text, _principal):
        return text

    async def verify_own(self, hashed, text, _principal):
        return hashed == text

    async def check_old_password(self, request, old):
        return old


def pay(tx):
    """Add a payment of clara's, and one that waits for the staff."""
    test_payment_properties.set_currency(tx)
    test_payment_properties.receive(tx, 1, "clara")
    test_payment_properties.receive(tx, 2, "nobody")
    tx.execute(sa.delete(tables.tariff))


def fill(tx):
    """Add the staff's own credit, payment, schedule and sessions to the people: what others may want to change."""
    people(tx)
    pay(tx)
    tx.execute(sa.update(tables.subscriber).values(password_hash=OLD))
    author = Actor("command", "root", manages=ALL_LEVELS)
    by_name = {username: subscriber_records.find(tx, username) for username in PEOPLE}
    for number, username in enumerate(PEOPLE):
        credit(tx, Credit(username, Kind.VOICE, 50, "web", f"id:{number}"), author, NOW)
    for name, members in {"gold": ["clara", "ana"], "silver": ["ana", "bia"]}.items():
        made = schedule_changes.add(
            tx,
            author,
            name=name,
            kind=1,
            value=5,
            recurrence="monthly",
            day=1,
            interval_days=None,
            count=3,
            time_zone="UTC",
            now=NOW,
        )
        for username in members:
            schedule_changes.join(tx, author, made, by_name[username], now=NOW)
    for username, who in by_name.items():
        sessions.open_session(tx, username, who.id, address="10.0.0.2", now=NOW, lifetime=timedelta(days=1))


@pytest.fixture(scope="module", autouse=True)
def ledger():
    """Make one ledger for all sequences: each is undone at its end."""
    engine = databases.sqlite(fill=fill)
    PrincipalMachine.engine = engine
    yield
    engine.dispose()


_WITHOUT_UPLOAD = SimpleNamespace(
    take_upload=lambda: None,
    channel=None,
    **dict.fromkeys(("setResponseCode", "setHeader", "registerProducer", "write"), lambda *_: None),
)


class PrincipalMachine(RuleBasedStateMachine):
    """One principal, whatever they ask, with their credential or logged in by a password that they have set.

    A password's hash is the password itself here. An administrator's session and `admin` token may do everything.
    """

    engine = None

    @initialize(owner=st.sampled_from(["admin", "clara", "clara", "ana"]), scope=st.none() | st.sampled_from(Scope))
    def begin(self, owner, scope):
        self.tx = self.engine.connect()
        self.sequence = self.tx.begin()
        person = subscriber_records.find(self.tx, owner)
        self.owner_id, self.scope = person.id, scope
        self.whole = scope in (None, Scope.ADMIN)
        self.free = self.whole and person.level is Level.ADMINISTRATOR
        if scope is not None:
            what = {"name": "t", "scopes": [scope], "expires_at": None, "now": NOW}
            tokens.make_token(self.tx, Actor("x", "", manages=ALL_LEVELS), "token", person.id, **what)
        self.first = Principal(person.id, owner, person.level, None if scope is None else frozenset({scope}))
        self.untouchable = self.read_untouchable()

    def teardown(self):
        self.sequence.rollback()
        self.tx.close()

    def read_untouchable(self):
        """Return the rows that the principal may not change, by the rules for their level and scope."""
        person, account, member = tables.subscriber, tables.account, tables.membership
        mine = {"name", "address", "language"} | ({"password_hash"} if self.whole else set())
        own = [person.c[name] for name in person.c.keys() if name not in mine]  # noqa: SIM118  a column collection
        others = person.c.id != self.owner_id
        changes_only_itself = self.first.level is Level.SUBSCRIBER
        if not self.first.writes:
            changes_only_itself, own = True, list(person.c)
        among = sa.true() if changes_only_itself else tables.IS_STAFF
        ids = sa.select(person.c.id).where(among)
        in_them = sa.select(member.c.schedule_id).where(member.c.subscriber_id.in_(ids), member.c.ended_at.is_(None))
        everything = [
            table for table in (tables.schedule, member, tables.transfer, tables.contract) if changes_only_itself
        ]
        queries = [
            sa.select(person).where(among, others),
            sa.select(*own).where(person.c.id == self.owner_id),
            sa.select(account).where(account.c.subscriber_id.in_(ids)),
            sa.select(account.c.id, account.c.floor).where(account.c.floor != 0),
            sa.select(member).where(member.c.subscriber_id.in_(ids)),
            sa.select(tables.schedule).where(tables.schedule.c.id.in_(in_them)),
            sa.select(tables.session).where(
                tables.session.c.subscriber_id.in_(ids), tables.session.c.subscriber_id != self.owner_id
            ),
            sa.select(tables.token).where(tables.token.c.subscriber_id != self.owner_id),
            sa.select(sa.func.count()).select_from(tables.token),
            *map(sa.select, everything),
        ]
        return [sorted(self.tx.execute(each).all(), key=str) for each in queries]

    def principals(self):
        """Return the first one, if they may still log in, and one for each session that a password they set opens."""
        person = tables.subscriber
        opened = sa.select(person.c.id, person.c.username, person.c.level).where(
            person.c.password_hash.in_(PASSWORDS), person.c.enabled, subscriber_records.NOT_DELETED
        )
        found = [Principal(row.id, row.username, Level(row.level)) for row in self.tx.execute(opened)]
        if self.scope is not None and tokens.by_token(self.tx, "token", NOW) is None:
            return found
        return [self.first, *found]

    def draw_request(self, data, route):
        who = data.draw(st.sampled_from(self.principals()))
        paths = PATHS | {"username": usernames | st.just(who.username)}
        path = {name: data.draw(values) for name, values in paths.items() if f"{{{name}}}" in route.open_path}
        body = data.draw(BODIES[route.name]) if route.name in BODIES else None
        said = (body or {}).get("password")
        return Request(
            config=Config(),
            who=who,
            path=path,
            query={} if route.query is None else convert_fields(route.query, {}),
            body=body if route.body is None else convert_fields(route.body, body),
            now=NOW,
            address="10.0.0.1",
            base_url="http://x",
            url="http://x",
            password=None if said is None else self.prepare_password(who, body),
        )

    def prepare_password(self, who, body):
        """Return the password as `Api` prepares it: the old one is compared with the principal's own."""
        current = subscriber_records.find_password(self.tx, who.subscriber_id)
        replaces = current if body.get("old_password") == current else None
        return NewPassword(body["password"], body["password"], replaces, revoke_tokens=body.get("revoke_tokens", False))

    @precondition(principals)  # a token may have ended itself
    @rule(data=st.data(), route=st.sampled_from(RISKY) | st.sampled_from(WRITING))
    def write(self, data, route):
        part = self.tx.begin_nested()
        try:
            request = self.draw_request(data, route)
            check_access(request.who, route.who, request.path)
            self.answer(route, request)
        except BillerError:
            part.rollback()
        else:
            part.commit()

    @precondition(principals)
    @rule(data=st.data(), route=st.sampled_from(READING))
    def read(self, data, route):
        """A subscriber is shown no other: neither their names nor their numbers."""
        if self.first.level is not Level.SUBSCRIBER:
            return
        try:
            request = self.draw_request(data, route)
            check_access(request.who, route.who, request.path)
            found = route.do(self.tx, request)
        except BillerError:
            return
        shown = str(msgspec.to_builtins(getattr(found, "body", found))).lower()
        for other in ("bia", "clara", "1001", "1003", "1004"):  # not "admin", which is a scope too
            assert other not in shown, f"{route.name} shows {other}"

    def answer(self, route, asked):
        if route.do is not None:
            route.do(self.tx, asked)
        else:
            with pytest.raises(StopIteration):
                route.serve(Here(self.tx), _WITHOUT_UPLOAD, asked).send(None)

    @invariant()
    def no_principal_reaches_an_admin_answer(self):
        for who in [] if self.free else self.principals():
            for route in ADMINISTRATORS_ONLY:
                with pytest.raises(Forbidden):
                    check_access(who, route.who, {})

    @invariant()
    def what_they_may_not_change_stays(self):
        assert self.free or self.read_untouchable() == self.untouchable


TestPrincipals = PrincipalMachine.TestCase
TestPrincipals.settings = share(0.5)
