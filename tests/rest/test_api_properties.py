"""The laws of the ledger under any sequence of API calls, by anybody, beside calls, crashes and scheduled credits."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celcombiller.config.tables import Config
from celcombiller.core.access.principal import Principal
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.errors import BillerError, TransferConflict
from celcombiller.core.ledger import accounts, rows, statement
from celcombiller.core.model.accounts import Kind
from celcombiller.core.reports import history
from celcombiller.core.schedules import runs, schedule_records
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.authorization import check_access
from celcombiller.http.decoding import convert_fields
from celcombiller.http.route import Request, Response
from celcombiller.rest.routes import ROUTES
from tests.core.ledger.test_book import TERMS, ended, initiate
from tests.support import databases
from tests.support.http.api_service import PEOPLE, people
from tests.support.properties import share

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TABLE = {f"{route.method} {route.open_path}": route for route in ROUTES}

anybody = st.sampled_from(list(PEOPLE))
staff = st.sampled_from(["admin", "admin", "clara"])
usernames = st.sampled_from(["ana", "ana", "ana", "bia", "clara", "nobody"])
kinds = st.sampled_from(Kind)
values = st.one_of(st.sampled_from([40, 40, -5]), st.sampled_from([0, rows.AMOUNT_MAX, -rows.AMOUNT_MAX]))
keys = st.sampled_from(["k1", "k2", "k3"])
notes = st.sampled_from(["", "a note"])
reasons = st.sampled_from(["a mistake", "another"])
ids = st.integers(1, 12)
callers = st.sampled_from(["1002", "1003"])
uniqueids = st.integers(0, 4).map(lambda n: f"{n}.0")


class ApiMachine(RuleBasedStateMachine):
    """Whatever is asked of the API, in whatever order: each answer is right or a refusal, and all is proved after it."""

    @initialize()
    def begin(self):
        self.engine = databases.sqlite(fill=people)
        self.now = NOW
        self.given = {}
        self.schedules = 0

    def teardown(self):
        self.prove()
        self.engine.dispose()

    def ask(self, who, name, body=None, *, key=None, crash=False, **path):
        """Ask a route as the server does: who it is, whether he may, what he says; a refusal undoes all of it."""
        route = TABLE[name]
        with self.engine.connect() as tx, tx.begin() as transaction:
            try:
                person = subscriber_records.find(tx, who)
                principal = Principal(person.id, person.username, person.level)
                check_access(principal, route.who, path)
                said = body if route.body is None or body is None else convert_fields(route.body, body)
                asked = Request(
                    config=Config(),
                    who=principal,
                    path=path,
                    query=None,
                    body=said,
                    now=self.now,
                    address="10.0.0.1",
                    base_url="http://x",
                    url="http://x",
                    key=key,
                )
                answer = route.do(tx, asked)
            except BillerError as refusal:
                transaction.rollback()
                return refusal
            if crash:
                transaction.rollback()
                return None
        return answer.body if isinstance(answer, Response) else answer

    # -- credit ------------------------------------------------------------------------------------------------------

    @rule(
        who=staff,
        username=usernames,
        kind=kinds,
        value=values,
        key=keys,
        note=notes,
        crash=st.integers(0, 3).map(lambda n: n == 3),
    )
    def transfer(self, who, username, kind, value, key, note, crash):
        content = {"username": username, "kind": kind.value, "value": value, "note": note}
        answer = self.ask(who, "POST /api/v1/transfers", content, key=key, crash=crash)
        if isinstance(answer, BillerError) or answer is None:
            assert not isinstance(answer, TransferConflict) or (who, key) in self.given
            return
        first = self.given.setdefault((who, key), (content, answer))
        assert first == (content, answer)

    @invariant()
    def each_sender_has_transfers_of_their_own(self):
        if hasattr(self, "given"):
            references = [answer.reference for _, answer in self.given.values()]
            assert len(references) == len(set(references))

    @rule(who=anybody, transfer_id=ids, reason=reasons)
    def reverse(self, who, transfer_id, reason):
        answer = self.ask(who, "POST /api/v1/transfers/{id}/reversal", {"note": reason}, id=transfer_id)
        if not isinstance(answer, BillerError):
            with self.engine.begin() as tx:
                moved = {each.reference: each for each in everything_of(tx)}
            back = moved[answer.reference]
            assert back.value == -moved[answer.reference.removeprefix("reversal:")].value

    @rule(who=anybody, username=usernames, kind=kinds, limit=st.integers(0, 100))
    def limit(self, who, username, kind, limit):
        path = {"username": username, "kind": kind.value}
        name = "PATCH /api/v1/subscribers/{username}/accounts/{kind}"
        answer = self.ask(who, name, {"credit_limit": limit}, **path)
        assert isinstance(answer, BillerError) or (who, answer.credit_limit) == ("admin", limit)

    @rule(who=staff, user_id=st.integers(1, 6), value=values, key=st.none() | keys)
    def transfer_as_the_original(self, who, user_id, value, key):
        body = {"from_user_id": user_id, "value": value, "origin": "web"}
        self.ask(who, "POST /api/voice_balance", body, key=None if key is None else f"o{key}")

    # -- subscribers -------------------------------------------------------------------------------------------------

    @rule(who=staff, username=usernames, enabled=st.booleans())
    def change(self, who, username, enabled):
        self.ask(who, "PATCH /api/v1/subscribers/{username}", {"enabled": enabled}, username=username)

    @rule(who=staff, username=st.sampled_from(["ana", "bia"]), number=st.integers(1002, 1003))
    def delete_and_add(self, who, username, number):
        self.ask(who, "DELETE /api/v1/subscribers/{username}", username=username)
        body = {"username": username, "name": "N", "clid": str(number), "imsi": f"72400000000{number}"}
        self.ask(who, "POST /api/v1/subscribers", body)

    # -- calls and schedules -----------------------------------------------------------------------------------------

    @rule(uniqueid=uniqueids, caller=callers)
    def call(self, uniqueid, caller):
        question = initiate(uniqueid, caller, "1001", authorization=f"{uniqueid}{caller}")
        with self.engine.begin() as tx:
            process_batch(tx, TERMS, [question], self.now)

    @rule(uniqueid=uniqueids, talk_ms=st.integers(0, 130_000), answered=st.booleans())
    def hang_up(self, uniqueid, talk_ms, answered):
        with self.engine.begin() as tx:
            process_batch(tx, TERMS, [ended(uniqueid, talk_ms, answered=answered)], self.now)

    @rule(who=staff, username=usernames, value=st.integers(0, 50))
    def schedule(self, who, username, value):
        self.schedules += 1
        body = {
            "name": f"s{self.schedules}",
            "value": value,
            "kind": "both",
            "recurrence": "days",
            "interval_days": 1,
            "time_zone": "UTC",
        }
        made = self.ask(who, "POST /api/v1/schedules", body)
        body = {"username": username, "count": 2}
        self.ask(who, "POST /api/v1/schedules/{id}/members", body, id=made.id)

    @rule()
    def a_day_later(self):
        self.now += timedelta(days=1)
        with self.engine.begin() as tx:
            for each in schedule_records.list_all(tx):
                runs.decide(tx, each.id, ScheduleRules(), self.now.date(), self.now)
            for run in runs.open_runs(tx):
                while runs.advance(tx, run.id, ScheduleRules(), self.now, size=2).more:
                    pass

    # -- the laws ----------------------------------------------------------------------------------------------------

    @rule()
    def prove(self):
        with self.engine.begin() as tx:
            report = audit(tx)
        assert report.ok, report.differences

    @invariant()
    def lists_tell_what_accounts_hold(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            for each in subscriber_records.list_all(tx):
                for account in accounts.balances(tx, each.id).values():
                    lines = statement.statement(tx, account, limit=1000)
                    assert sum(line.value for line in lines) == account.posted
                    assert (lines[0].posted if lines else 0) == account.posted


def everything_of(tx):
    return [each.line for each in history.list_transfers(tx, limit=1000)]


TestApi = ApiMachine.TestCase
TestApi.settings = share(0.25)
