"""``/api/v1`` accounts: balances, statements, credit limits, and open holds."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import validity_changes
from celcombiller.core.charging import operator_credit
from celcombiller.core.ledger import accounts as ledger_accounts
from celcombiller.core.ledger import statement as ledger_statement
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.reports import history
from celcombiller.core.reports.history import RecordedTransfer
from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.core.schedules.due_dates import local_date, zone_of
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.validity.end_dates import read_last_days
from celcombiller.http.pagination import Cursor, Limit, NamedPlace, Page, RowId, Since, Until, decode_cursor, make_page
from celcombiller.rest.v1.pricing.bundles import BundleView, views_of
from celcombiller.rest.v1.subscribers import BalanceView, Sought, visible_subscriber
from celcombiller.rest.v1.transfers import TransferView, to_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.core.ledger.spending import Spending
    from celcombiller.core.model.accounts import Account
    from celcombiller.core.reports.history import OpenHold
    from celcombiller.http.route import Request

CREDIT_LIMIT_MAX = 10**12


SpendingLimit = Annotated[
    int, Meta(ge=0, le=AMOUNT_MAX, description=f"credits from 0 to {AMOUNT_MAX} that may be spent; null: no limit")
]


class AccountView(BalanceView, kw_only=True):
    """An account: the credit of one kind, and its balance."""

    kind: Annotated[Kind, Meta(description="what the credit buys: voice, data or sms")]
    day_limit: Annotated[int, Meta(description="credits that may be spent in a day; null: no limit")] | None
    month_limit: Annotated[int, Meta(description="credits that may be spent in a month; null: no limit")] | None
    spent_day: Annotated[int, Meta(description="credits spent today, where there is a limit")]
    spent_month: Annotated[int, Meta(description="credits spent in this month, where there is a limit")]
    valid_until: (
        Annotated[
            date, Meta(description="the last day on which its credit is valid; null: it has no end, or no credit")
        ]
        | None
    )


class AccountList(msgspec.Struct, kw_only=True):
    """The accounts of a subscriber, one of each kind, and their bundles that have not ended."""

    items: list[AccountView]
    bundles: Annotated[list[BundleView], Meta(description="in the order in which they are spent, before the balance")]


class AccountChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change of an account. Fields that are not named stay as they are. Only transfers change a balance."""

    credit_limit: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=CREDIT_LIMIT_MAX,
                description=f"credits from 0 (prepaid) to {CREDIT_LIMIT_MAX}: how far the balance may fall below 0",
            ),
        ]
        | UnsetType
    ) = UNSET
    day_limit: SpendingLimit | UnsetType | None = UNSET
    month_limit: SpendingLimit | UnsetType | None = UNSET
    valid_until: (
        Annotated[date, Meta(description="keep its credit valid through this day at least: from today on")] | UnsetType
    ) = UNSET


class StatementQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of a statement: the movements that match all given fields."""

    kind: Annotated[Kind, Meta(description="voice, data or sms")] | None = None
    since: Since | None = None
    until: Until | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class HoldView(msgspec.Struct, kw_only=True):
    """Credit that a call in progress sets aside."""

    reference: Annotated[str, Meta(description="the id of its call in the ledger")]
    call_id: Annotated[int, Meta(description="the number of its call")] | None
    username: Annotated[str, Meta(description="the subscriber whose credit it is")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    kind: AccountWord
    amount: Annotated[int, Meta(description="credits")]
    opened_at: Annotated[datetime, Meta(tz=True, description="since when (RFC 3339, UTC)")]
    expires_at: Annotated[
        datetime, Meta(tz=True, description="when it ends if no end of the call is reported (RFC 3339, UTC)")
    ]


class HoldQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of holds; without a username, those of all subscribers."""

    username: Sought | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_of(tx: Connection, request: Request) -> AccountList:
    """Show the accounts of a subscriber."""
    accounts = subscriber_records.balances(tx, request.path["username"])
    who = subscriber_records.find(tx, request.path["username"])
    bundles = views_of(tx, who.id, who.username, request.now)
    zone = request.config.schedules.zone
    spent = ledger_accounts.spendings(tx, who.id, local_date(request.now, zone))
    days = read_last_days(tx, accounts.values(), zone)
    items = [_to_account_view(accounts[kind], spent[kind], days) for kind in Kind]
    return AccountList(items=items, bundles=bundles)


def change(tx: Connection, request: Request) -> AccountView:
    """Change the limits of an account. Grants that were made before stay valid."""
    body: AccountChange = request.body
    username, kind = request.path["username"], Kind(request.path["kind"])
    if body.credit_limit is not UNSET:
        operator_credit.set_credit_limit(tx, username, kind, body.credit_limit, request.actor, request.now)
    limits = {"day_limit": body.day_limit, "month_limit": body.month_limit}
    changes = {name: limit for name, limit in limits.items() if limit is not UNSET}
    zone = request.config.schedules.zone
    if changes:
        operator_credit.set_spending_limits(
            tx, username, kind, changes, request.actor, zone=zone_of(zone), now=request.now
        )
    if body.valid_until is not UNSET:
        validity_changes.extend(tx, username, kind, body.valid_until, request.actor, zone=zone, now=request.now)
    who = subscriber_records.find(tx, username)
    spent = ledger_accounts.spendings(tx, who.id, local_date(request.now, zone))
    account = ledger_accounts.balances(tx, who.id)[kind]
    return _to_account_view(account, spent[kind], read_last_days(tx, [account], zone))


def statement(tx: Connection, request: Request) -> Page[TransferView]:
    """List the movements of a subscriber's accounts, newest first, with the balance after each."""
    query: StatementQuery = request.query
    who = subscriber_records.find(tx, request.path["username"])
    accounts = ledger_accounts.balances(tx, who.id)
    before_id = decode_cursor(query.cursor, RowId)
    lines = [
        line
        for kind in ([query.kind] if query.kind else Kind)
        for line in ledger_statement.statement(
            tx, accounts[kind], limit=query.limit + 1, before_id=before_id, since=query.since, until=query.until
        )
    ]
    lines.sort(key=lambda line: -line.id)
    return make_page(
        lines[: query.limit + 1],
        query.limit,
        lambda line: line.id,
        lambda line: to_view(RecordedTransfer(who.id, who.username, who.name, who.level, line)),
    )


def holds(tx: Connection, request: Request) -> Page[HoldView]:
    """List the holds of calls in progress, newest first."""
    query: HoldQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = history.list_open_holds(
        tx,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        after=decode_cursor(query.cursor, NamedPlace),
    )
    return make_page(rows, query.limit, lambda each: (each.hold.opened_at, each.hold.reference), _to_hold_view)


def _to_hold_view(each: OpenHold) -> HoldView:
    return make_view(HoldView, each.hold, call_id=each.call_id, username=each.username, name=each.name, kind=each.kind)


def _to_account_view(account: Account, spending: Spending, days: Mapping[int, date]) -> AccountView:
    facts = {name: getattr(spending, name) for name in ("day_limit", "month_limit", "spent_day", "spent_month")}
    return make_view(AccountView, account, credit_limit=-account.floor, valid_until=days.get(account.id), **facts)
