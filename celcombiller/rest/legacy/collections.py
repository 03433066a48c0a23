"""Collections as Flask-Restless 0.17 had them: lists in pages with a search, and single objects.

A page is read in two steps: first the ids of its rows, for which an index is enough, then the rows. In a collection of
two statements each finds as many ids as the page may need, and the two results are merged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from twisted.web import http

from celcombiller.core.errors import BrokenRequest
from celcombiller.http.route import Response
from celcombiller.rest.legacy.search import Builder, Columns, Fields, Search, Shape, parse_search, parse_whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine, RowMapping

    from celcombiller.http.route import Request

PAGE_MAX = 100
SLOW_SECONDS = 0.010
KEPT_TIMES = 20
"""A slow count is kept for this many times its duration, so that counting takes at most a twentieth of the time."""

KEPT_MAX = 1000
NUMBER_MAX = 2**53 - 1
MISSING = Response({}, http.NOT_FOUND)
"""The answer of the original program for an object that does not exist."""


@dataclass(frozen=True, slots=True)
class OptionalJoin:
    """A table with at most one row for each row of another, and the fields that need it.

    Databases do not leave out joins that a count does not need.
    """

    table: sa.FromClause
    on: sa.ColumnElement[bool]
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of one statement: its tables, a condition, and the columns by their names in the collection.

    ``owned`` returns the condition for the rows of one subscriber, in a form that an index serves.
    """

    table: sa.FromClause
    rows: sa.ColumnElement[bool]
    columns: Columns
    owned: Callable[[int], sa.ColumnElement[bool]]
    optional_joins: tuple[OptionalJoin, ...] = ()

    def tables(self, names: Iterable[str]) -> sa.FromClause:
        """Return the tables that these fields need."""
        needed = frozenset(names)
        tables = self.table
        for each in self.optional_joins:
            if needed & each.fields:
                tables = tables.outerjoin(each.table, each.on)
        return tables


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection. ``owner`` is the field with the subscriber that a row belongs to, if there is one."""

    name: str
    fields: Fields
    sources: tuple[Source, ...]
    key: str = "_id"
    owner: str = ""
    page: int = PAGE_MAX


@dataclass(slots=True)
class Counts:
    """A cache of counts that were slow."""

    clock: Callable[[], float] = time.monotonic
    _kept: dict[Hashable, tuple[float, int]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def total(self, key: Hashable, count: Callable[[], int]) -> int:
        """Return the cached count of ``key``, or count."""
        began = self.clock()
        with self._lock:
            until, total = self._kept.get(key, (began, 0))
        if began < until:
            return total
        total = count()
        ended = self.clock()
        if ended - began > SLOW_SECONDS:
            with self._lock:
                self._kept.pop(key, None)
                while len(self._kept) >= KEPT_MAX:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = (ended + KEPT_TIMES * (ended - began), total)
        return total


_counts: WeakKeyDictionary[Engine, Counts] = WeakKeyDictionary()
"""The counts of each database that this process has open."""


def answer_list(tx: Connection, request: Request, collection: Collection) -> Response:
    """Answer a GET of a collection: a page of what ``?q=`` finds, or the single object if it asks for one."""
    search = parse_search(request.query.get("q") or "{}", collection.fields, request.now)
    rows = Rows(tx, collection, search, request.only_subscriber_id)
    here = request.url.partition("?")[0]
    if search.single:
        return _single(rows, here)
    per_page = _per_page(request.query.get("results_per_page"), collection.page)
    page = _page(request.query.get("page", "1"))
    total = rows.count()
    start = (page - 1) * per_page
    ids = rows.list_ids(start, min(per_page, total - start)) if 0 <= start < total else []
    pages = -(-total // per_page)
    return Response(
        {"num_results": total, "objects": rows.read_objects(ids, listed=True), "page": page, "total_pages": pages},
        headers={"Link": _links(here, request.query.get("q"), page, pages, per_page)},
    )


def _single(rows: Rows, here: str) -> Response:
    ids = rows.list_ids(0, 2)
    if not ids:
        return Response({"message": "No result found"}, http.NOT_FOUND)
    if len(ids) > 1:
        return Response({"message": "Multiple results found"}, http.BAD_REQUEST)
    (view,) = rows.read_objects(ids, listed=True)
    return Response(view, headers={"Location": make_address(here, rows.collection, view)})


def find_object(
    tx: Connection, collection: Collection, key: Any, *, owner_id: int | None = None
) -> dict[str, Any] | None:
    """Return the object of this key, and of this owner if ``owner_id`` is given; ``None`` if there is none."""
    rows = Rows(tx, collection, Search(), owner_id)
    found = rows.read_objects(rows.find_ids(collection.key, key), listed=False)
    return found[0] if found else None


def answer_object(tx: Connection, request: Request, collection: Collection, key: Any) -> Response:
    """Answer with the object of this key, if there is one that the principal may see."""
    found = find_object(tx, collection, key, owner_id=request.only_subscriber_id)
    return MISSING if found is None else Response(found)


def read_object(tx: Connection, collection: Collection, row_id: int) -> dict[str, Any]:
    """Return the object of a row that exists."""
    (view,) = Rows(tx, collection, Search(), None).read_objects([row_id], listed=False)
    return view


def make_address(base: str, collection: Collection, view: Mapping[str, Any]) -> str:
    """Return the address of an object, below the collection's."""
    return f"{base}/{quote(str(view[collection.key]), safe='')}"


def format_local_time(instant: datetime) -> str:
    """Return a time as the original wrote it: local time of this machine, in microseconds, without a zone."""
    return instant.astimezone().replace(tzinfo=None).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that a search finds in a collection: all, or those of one owner."""

    tx: Connection
    collection: Collection
    search: Search
    owner_id: int | None

    def count(self) -> int:
        """Return the number of rows found, within the limit and the offset of the search."""
        collection, search = self.collection, self.search
        counts = _counts.setdefault(self.tx.engine, Counts())
        key = (collection.name, search.filters, search.group_by, self.owner_id)
        total = max(counts.total(key, self._count_rows) - search.offset, 0)
        return total if search.limit is None else min(total, search.limit)

    def _count_rows(self) -> int:
        if self.search.group_by:
            return int(
                self.tx.execute(sa.select(sa.func.count()).select_from(self._group_ids().subquery())).scalar_one()
            )
        counts = [
            self._restrict(source, sa.select(sa.func.count())).scalar_subquery() for source in self.collection.sources
        ]
        return sum(self.tx.execute(sa.select(*counts)).one())

    def list_ids(self, start: int, many: int) -> list[int]:
        """Return ``many`` ids in order, from ``start`` on, within the limit and the offset of the search."""
        search = self.search
        if search.limit is not None:
            many = min(many, search.limit - start)
        if many <= 0:
            return []
        first = search.offset + start
        found = [self._first_ids(source, first + many) for source in self.collection.sources]
        rows = (sa.union_all(*map(sa.select, found)) if len(found) > 1 else sa.select(found[0])).subquery()
        order = self._order(rows.c)
        return list(self.tx.execute(sa.select(rows.c["_id"]).order_by(*order).offset(first).limit(many)).scalars())

    def find_ids(self, name: str, value: Any) -> list[int]:
        """Return the id of a row whose field has this value."""
        for source in self.collection.sources:
            statement = self._restrict(source, sa.select(source.columns["_id"]), name)
            ids = list(self.tx.execute(statement.where(source.columns[name] == value).limit(1)).scalars())
            if ids:
                return ids
        return []

    def read_objects(self, ids: Sequence[int], *, listed: bool) -> list[dict[str, Any]]:
        """Return the objects of these rows, in this order."""
        if not ids:
            return []
        found: dict[int, dict[str, Any]] = {}
        for source in self.collection.sources:
            columns = [source.columns[name].label(name) for name in self.collection.fields]
            statement = sa.select(*columns).select_from(source.tables(self.collection.fields))
            for row in self.tx.execute(statement.where(source.rows, source.columns["_id"].in_(ids))).mappings():
                found[row["_id"]] = self._object(row, listed=listed)
        return [found[row_id] for row_id in ids if row_id in found]

    def _object(self, row: RowMapping, *, listed: bool) -> dict[str, Any]:
        return {
            name: _json(each.shape, row[name])
            for name, each in self.collection.fields.items()
            if not each.listed or (listed and row[name] is not None)
        }

    # -- statements -------------------------------------------------------------------------------------------------

    def _builder(self, source: Source) -> Builder:
        return Builder(self.collection.fields, source.columns, self.tx.dialect.name)

    def _restrict(self, source: Source, statement: sa.Select[Any], *names: str) -> sa.Select[Any]:
        """Return the statement with the tables that the search and these fields need, and with the conditions.

        The condition on the owner has a form that an index serves.
        """
        owner_id = self.owner_id
        if owner_id is None and self.collection.owner:
            owner_id = self.search.pinned(self.collection.owner)
        rows = source.rows if owner_id is None else source.owned(owner_id)
        conditions = self._builder(source).conditions(self.search.filters)
        return statement.select_from(source.tables((*names, *self.search.names()))).where(rows, *conditions)

    def _first_ids(self, source: Source, many: int) -> sa.Subquery:
        """Return the first ids of one source, with the columns of their order."""
        names = dict.fromkeys(name for name, _ in self.search.order_by if name != "_id")
        columns = {name: source.columns[name] for name in ("_id", *names)}
        statement: sa.Select[Any] = sa.select(*(column.label(name) for name, column in columns.items()))
        statement = self._restrict(source, statement, *columns)
        if self.search.group_by:
            statement = statement.where(columns["_id"].in_(self._group_ids()))
        return statement.order_by(*self._order(columns)).limit(many).subquery()

    def _order(self, columns: Any) -> list[sa.ColumnElement[Any]]:
        builder = self._builder(self.collection.sources[0])
        order = [builder.order(name, columns[name], descending=descending) for name, descending in self.search.order_by]
        return [*order, builder.order("_id", columns["_id"], descending=False)]

    def _group_ids(self) -> sa.Select[Any]:
        """Return the first id of each group."""
        names = dict.fromkeys(("_id", *self.search.group_by))
        statements = [
            self._restrict(source, sa.select(*(source.columns[name].label(name) for name in names)), *names)
            for source in self.collection.sources
        ]
        rows = (sa.union_all(*statements) if len(statements) > 1 else statements[0]).subquery()
        return sa.select(sa.func.min(rows.c["_id"])).group_by(*(rows.c[name] for name in self.search.group_by))


def _json(shape: Shape, value: Any) -> Any:
    match shape:
        case Shape.DIGITS:
            return None if value is None else int(value)
        case Shape.INSTANT:
            return None if value is None else format_local_time(value)
        case _:
            return value


# -- pages -----------------------------------------------------------------------------------------------------------


def _page(text: str) -> int:
    """Return the number of a page. Pages before the first and after the last are empty."""
    try:
        page = parse_whole_number(text)
    except ValueError:
        page = NUMBER_MAX + 1
    if abs(page) > NUMBER_MAX:
        raise BrokenRequest("page must be a whole number")
    return page


def _per_page(text: str | None, default: int) -> int:
    """Return the number of objects on a page. What is not such a number means the default, as in the original."""
    try:
        number = parse_whole_number(text)
    except ValueError:
        number = 0
    return min(number, PAGE_MAX) if number > 0 else default


def _links(here: str, q: str | None, page: int, pages: int, per_page: int) -> str:
    """Return the header Link: the next page, if there is one, and the last page of the search."""

    def link(number: int, relation: str) -> str:
        query = {"page": number, "results_per_page": per_page} | ({"q": q} if q else {})
        return f'<{here}?{urlencode(query)}>; rel="{relation}"'

    return ", ".join([*([link(page + 1, "next")] if page < pages else []), link(pages, "last")])
