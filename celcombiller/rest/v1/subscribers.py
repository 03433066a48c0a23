"""``/api/v1/subscribers``: who holds the service."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.access.changes import subscriber_changes
from celcombiller.core.errors import InvalidValue, NotFound, WrongMediaType
from celcombiller.core.ledger import accounts as ledger_accounts
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level, Subscriber
from celcombiller.core.reports.import_views import FileFinding
from celcombiller.core.reports.views import make_view
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_filters, subscriber_records
from celcombiller.core.subscribers.fields import Address, Clid, Cpf, Imsi, Language, Name, Username
from celcombiller.core.subscribers.subscriber_file import REQUIRED, find_conflicts, read_rows
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED
from celcombiller.core.tariffs.files.findings import Findings
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import ID_MAX, Response
from celcombiller.http.transport.streaming import CSV_TYPE, format_csv, send
from celcombiller.rest.v1.groups import CallLimit, PrefixList, TariffId
from celcombiller.runtime.credentials.password_hash import OldPassword, Password

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.subscribers.subscriber_file import SubscriberRow
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

LevelNumber = Annotated[
    Level,
    Meta(description="0 administrator, 1 subscriber (their own data only), 2 collaborator (subscribers and credit)"),
]


OldPasswordGiven = Annotated[
    OldPassword, Meta(description="the password until now: needed to change one's own, at most 1024 characters")
]
RevokeTokens = Annotated[bool, Meta(description="with a new password: whether it also revokes the subscriber's tokens")]


GroupId = Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of a group")]


TERMS = ("tariff_id", "group_id", "calls_max", "barred", "allowed")
"""Fields of who has a tariff, a group or limits of their own."""


CREDENTIALS = {"password", "old_password", "revoke_tokens"}
"""Fields of a change that are no columns."""


Sought = Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: all of it")]
Part = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00]{0,64}$",
        description="at most 64 characters: a part of a name, number, IMSI or CPF, in any case, accents or not",
    ),
]
Payer = Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: who pays")]


class BalanceView(msgspec.Struct, kw_only=True):
    """The balance of an account."""

    posted: Annotated[int, Meta(description="credits: the settled total")]
    held: Annotated[int, Meta(description="credits that open holds set aside")]
    available: Annotated[int, Meta(description="credits that may still be used: posted - held + credit_limit")]
    credit_limit: Annotated[int, Meta(description="credits that may be used below 0; 0: prepaid")]


class SubscriberView(msgspec.Struct, kw_only=True):
    """A subscriber and their balances."""

    id: Annotated[int, Meta(description="the number of the row; it never changes")]
    username: str
    name: str
    clid: Annotated[str, Meta(description="the phone number (MSISDN): digits")]
    imsi: Annotated[str, Meta(description="digits")]
    cpf: Annotated[str, Meta(description="digits")] | None
    address: str
    level: LevelNumber
    enabled: Annotated[bool, Meta(description="whether they may call and log in")]
    suspended: Annotated[bool, Meta(description="whether they may call chosen numbers only, as a fee is unpaid")]
    tariff_id: (
        Annotated[int, Meta(description="the number of their own tariff; null: as the group, or the default")] | None
    )
    group_id: Annotated[int, Meta(description="the number of their group")] | None
    calls_max: Annotated[int, Meta(description="number of calls at once; null: as the group")] | None
    barred: Annotated[list[str], Meta(description="prefixes that they may not call; null: as the group")] | None
    allowed: Annotated[list[str], Meta(description="prefixes that they may call; null: as the group")] | None
    language: Language
    voice: BalanceView
    data: BalanceView
    sms: BalanceView


class NewSubscriber(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A subscriber to add, whose accounts are empty."""

    username: Username
    name: Name
    clid: Clid
    imsi: Imsi
    cpf: Cpf | None = None
    address: Address = ""
    level: LevelNumber = Level.SUBSCRIBER
    enabled: bool = True
    password: Password | None = None
    tariff_id: TariffId | None = None
    group_id: GroupId | None = None
    calls_max: CallLimit | None = None
    barred: PrefixList | None = None
    allowed: PrefixList | None = None
    language: Language = ""


class SubscriberChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change. Fields that are not named stay as they are."""

    username: Username | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    clid: Clid | UnsetType = UNSET
    imsi: Imsi | UnsetType = UNSET
    cpf: Cpf | UnsetType | None = UNSET
    address: Address | UnsetType = UNSET
    level: LevelNumber | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tariff_id: TariffId | UnsetType | None = UNSET
    group_id: GroupId | UnsetType | None = UNSET
    calls_max: CallLimit | UnsetType | None = UNSET
    barred: PrefixList | UnsetType | None = UNSET
    allowed: PrefixList | UnsetType | None = UNSET
    language: Language | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    old_password: OldPasswordGiven | UnsetType = UNSET
    revoke_tokens: RevokeTokens | UnsetType = UNSET


class SubscriberFilter(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of subscribers: those that match all given fields."""

    username: Sought | None = None
    clid: Sought | None = None
    imsi: Sought | None = None
    cpf: Sought | None = None
    level: LevelNumber | None = None
    enabled: bool | None = None
    suspended: Annotated[bool, Meta(description="whether they are suspended, as a fee is unpaid")] | None = None
    at_zero: Annotated[bool, Meta(description="whether they have no voice credit left")] | None = None
    inactive_days: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=3650,
                description="the number of days, 1 to 3650, for which they neither called nor sent a message",
            ),
        ]
        | None
    ) = None
    group_id: GroupId | None = None
    search: Part | None = None


class SubscriberQuery(SubscriberFilter, kw_only=True, forbid_unknown_fields=True):
    """A filter of subscribers, and the size of a page."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[SubscriberView]:
    """List subscribers, in the order in which they were added."""
    query: SubscriberQuery = request.query
    rows = _list_rows(tx, request, limit=query.limit + 1, after=decode_cursor(query.cursor, RowId))
    page = make_page(rows, query.limit, lambda row: row.id, subscriber_records.subscriber_from_row)
    return Page(items=_to_views(tx, page.items), next=page.next)


def _list_rows(tx: Connection, request: Request, *, limit: int, after: int | None) -> Sequence[sa.Row[Any]]:
    """Return the rows that the filter wants, by their numbers."""
    query: SubscriberFilter = request.query
    table = tables.subscriber
    wanted = [
        table.c[name] == value
        for name in ("username", "clid", "imsi", "cpf", "level", "enabled", "group_id")
        if (value := getattr(query, name)) is not None
    ]
    for value, condition in (
        (query.suspended, subscriber_filters.is_suspended()),
        (query.at_zero, subscriber_filters.is_at_zero()),
    ):
        if value is not None:
            wanted.append(condition if value else ~condition)
    if query.inactive_days is not None:
        wanted.append(subscriber_filters.is_inactive_since(request.now - timedelta(days=query.inactive_days)))
    if query.search:
        wanted.append(subscriber_filters.has_part(query.search))
    if after is not None:
        wanted.append(table.c.id > after)
    return tx.execute(sa.select(table).where(NOT_DELETED, *wanted).order_by(table.c.id).limit(limit)).all()


PIECE_ROWS = 500
"""Rows of a file that are read at once, in some milliseconds of a reader's thread."""
_FACTS = tuple(each for each in SubscriberView.__struct_fields__ if each not in set(Kind))
COLUMNS = (*_FACTS, *(f"{kind}_{field}" for kind in Kind for field in BalanceView.__struct_fields__))
"""The first line of the file: the fields of a subscriber, with those of each balance."""


async def download(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Download subscribers as CSV, in the order in which they were added, without pages."""
    request.check_export()
    headers = {"Content-Type": CSV_TYPE, "Content-Disposition": 'attachment; filename="subscribers.csv"'}
    if http_request.method == b"HEAD":
        return Response(headers=headers)

    def piece(tx: Connection, after: int | None) -> tuple[bytes, int | None]:
        rows = _list_rows(tx, api.readmit(tx, request), limit=PIECE_ROWS, after=after)
        lines = map(_cells, _to_views(tx, [subscriber_records.subscriber_from_row(each) for each in rows]))
        text = format_csv(lines if after is not None else [COLUMNS, *lines])
        return text, None if len(rows) < PIECE_ROWS else rows[-1].id

    await send(http_request, api.reader, headers, piece)
    return None


def _cells(each: SubscriberView) -> list[object]:
    """Return a subscriber as the cells of a line, in the order of `COLUMNS`."""
    cells: list[object] = []
    for name in _FACTS:
        value = getattr(each, name)
        cells.append(
            " ".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
        )
    return cells + [value for kind in Kind for value in msgspec.structs.astuple(getattr(each, kind.value))]


def show(tx: Connection, request: Request) -> SubscriberView:
    """Show one subscriber."""
    return _to_views(tx, [subscriber_records.find(tx, request.path["username"])])[0]


def add(tx: Connection, request: Request) -> Response:
    """Add a subscriber."""
    body: NewSubscriber = request.body
    made = subscriber_changes.add(
        tx,
        request.actor,
        username=body.username,
        name=body.name,
        clid=body.clid,
        imsi=body.imsi,
        cpf=body.cpf,
        address=body.address,
        level=body.level,
        enabled=body.enabled,
        password=request.password,
        terms={name: value for name in (*TERMS, "language") if (value := getattr(body, name)) not in (None, "")},
        now=request.now,
    )
    where = f"{request.base_url}/api/v1/subscribers/{made.username}"
    return Response(_to_views(tx, [made])[0], headers={"Location": where})


ROWS_MAX = 500
"""Rows of a file that are added at once: on SQLite calls wait meanwhile, about a second."""
_FILE_OCTETS_MAX = 512 * 1024


class SubscriberFileQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether to add the subscribers of a file."""

    dry_run: Annotated[bool, Meta(description="only report who would be added, and what is wrong in which row")] = False


class ImportedRow(msgspec.Struct, kw_only=True):
    """A subscriber of a file, in short."""

    row: Annotated[int, Meta(description="the number of its line in the file")]
    username: str
    name: str
    clid: str
    imsi: str


class SubscriberImportView(msgspec.Struct, kw_only=True):
    """Who a file adds, and what is wrong in it. With a fault nobody is added."""

    written: Annotated[bool, Meta(description="whether they were added")]
    items: Annotated[list[ImportedRow], Meta(description="those who are, or would be, added")]
    fault_count: Annotated[int, Meta(description="number of faults; the first of them are listed")]
    faults: Annotated[list[FileFinding], Meta(description="what must be mended, by the line of the file")]


async def import_file(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Add the subscribers of a CSV file of at most 500 rows, all or none; they get no password.

    A page has the file's octets in a field of its form: they are the body then.
    """
    query: SubscriberFileQuery = request.query
    upload = http_request.take_upload() if request.body is None else BytesIO(request.body)
    if upload is None:
        raise WrongMediaType("send CSV, with the header Content-Type: text/csv")
    with upload:
        rows, findings = await api.reader.read(lambda tx: _check_file(tx, upload, request.actor))
    if findings.fault_count and not query.dry_run:
        raise findings.refusal

    def work(tx: Connection, admitted: Request) -> None:
        for each in rows:
            subscriber_changes.add(tx, admitted.actor, **each.fields, password=None, now=admitted.now)

    if not query.dry_run:
        await api.transact(request, work)
    items = [
        ImportedRow(row=each.line, **{name: each.fields[name] for name in REQUIRED}) for each in rows if not each.errors
    ]
    faults = [FileFinding(row=each.row, text=each.text) for each in findings.faults]
    view = SubscriberImportView(written=not query.dry_run, items=items, fault_count=findings.fault_count, faults=faults)
    return Response(view)


def _check_file(tx: Connection, upload: BinaryIO, actor: Actor) -> tuple[list[SubscriberRow], Findings]:
    """Return the rows of a file, and what is wrong with them. Raises `InvalidValue` for what is no such file."""
    raw = upload.read(_FILE_OCTETS_MAX + 1)
    rows = list(islice(read_rows(raw[:_FILE_OCTETS_MAX]), ROWS_MAX + 1))
    if len(raw) > _FILE_OCTETS_MAX or len(rows) > ROWS_MAX:
        raise InvalidValue(f"a file may have {ROWS_MAX} rows; celcombiller import users takes longer ones")
    find_conflicts(tx, rows)
    findings = Findings()
    for each in rows:
        if not each.errors and each.fields["level"] not in actor.manages:
            each.errors.append("only an administrator adds administrators and collaborators")
        for text in each.errors:
            findings.add_fault(each.line, text)
    return rows, findings


def change(tx: Connection, request: Request) -> SubscriberView:
    """Change a subscriber. Subscribers may change their own name, address, language and password."""
    body: SubscriberChange = request.body
    given = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    changed = change_as(tx, request, request.path["username"], given)
    return _to_views(tx, [changed])[0]


def change_as(tx: Connection, request: Request, username: str, given: dict[str, Any]) -> Subscriber:
    """Change a subscriber as far as the principal may. A new password ends the subscriber's other sessions."""
    facts = {name: value for name, value in given.items() if name not in CREDENTIALS}
    if "password" not in given and not CREDENTIALS.isdisjoint(given):
        what = "is needed with old_password and revoke_tokens"
        raise InvalidValue(f"password {what}", {"password": what})
    password = request.password if "password" in given else None
    return subscriber_changes.change(
        tx, request.actor, username, facts, request.now, password=password, session=request.secret
    )


def delete(tx: Connection, request: Request) -> Response:
    """Delete a subscriber. Their identities become free; all records of them stay."""
    subscriber_changes.delete(tx, request.actor, request.path["username"], request.now)
    return Response()


def visible_subscriber(tx: Connection, request: Request, username: str | None) -> Subscriber | None:
    """Return the subscriber of this name, or whose records alone the principal may see; ``None``: all may be seen.

    Raises `NotFound` for a name that the principal may not see.
    """
    if request.only_subscriber_id is not None:
        if username not in (None, request.principal.username):
            raise NotFound("there is no such thing, or it is not yours")
        username = request.principal.username
    return None if username is None else subscriber_records.find(tx, username)


def _to_views(tx: Connection, found: list[Subscriber]) -> list[SubscriberView]:
    accounts = ledger_accounts.balances_of(tx, [each.id for each in found])

    def balance(subscriber_id: int, kind: Kind) -> BalanceView:
        account = accounts[subscriber_id, kind]
        return make_view(BalanceView, account, credit_limit=-account.floor)

    return [make_view(SubscriberView, each, **{kind.value: balance(each.id, kind) for kind in Kind}) for each in found]
