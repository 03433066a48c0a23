"""An original database: its generation and its rows.

The file is opened read-only, and read in one transaction.

The tables of the program changed a dozen times in two years, and ``create_all`` only added tables. So each table is
known with all columns that it ever had, and the generation is recognised by what only one of them has.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.accounts import Kind
from celcombiller.legacy_import.cell_values import read_line, read_text
from celcombiller.legacy_import.source_rows import OldCall, OldContract, OldMember, OldMovement, OldPlan, OldUser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from celcombiller.legacy_import.source_rows import Raw


LINE_MAX = 500
"""Characters of a refusal: names in the file may be of any length, with line ends in them."""

_Columns = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table by all its names, with our name of each column and all names that the column had."""

    names: tuple[str, ...]
    needs: _Columns
    may: _Columns


def _same(*names: str) -> _Columns:
    return {name: (name,) for name in names}


def _as(ours: str, *theirs: str) -> _Columns:
    return {ours: theirs}


_ID = _as("id", "_id", "id_", "id")
_TABLES = {
    "users": _Table(
        ("users",),
        _ID | _same("clid"),
        _same("username", "password", "name", "cpf", "imsi", "level", "admin", "balance")
        | _same("voice_balance", "data_balance")
        | _as("address", "address", "adress"),
    ),
    "voice_balance": _Table(
        ("voice_balance",), _ID | _same("from_user_id", "to_user_id", "value", "date", "origin"), {}
    ),
    "data_balance": _Table(
        ("data_balance",), _ID | _same("user_id", "date", "value", "user_ip", "connection_ip", "origin"), {}
    ),
    "schedule": _Table(("schedule",), _ID | _same("name"), _same("day", "value", "kind", "date")),
    "schedule_user": _Table(
        ("schedule_user",), _same("user_id", "count") | _as("plan_id", "schedule_id", "group_id"), _ID
    ),
    "schedule_contract": _Table(("schedule_contract",), _ID | _same("schedule_user_id", "date", "months"), {}),
    "schedule_input": _Table(
        ("schedule_input",), _ID | _same("schedule_id", "voice_balance_id", "data_balance_id"), {}
    ),
    "balance": _Table(
        ("balance", "ballance"),
        _ID | _same("date", "value", "signal") | _as("user_id", "usersId", "userId"),
        _same("type_") | _as("kind", "balance"),
    ),
    "cdr": _Table(("cdr",), _ID | _same("answer", "billsec", "from_user_id", "to_user_id"), {}),
    "groups": _Table(("groups", "cr"), _ID | _same("name"), _as("date", "date_to_update")),
    "dates": _Table(("dates",), _ID | _same("group_id", "date"), {}),
    "association": _Table(
        ("association",), _as("user_id", "User_id") | _as("plan_id", "Groups_id", "CreditsRegister_id"), {}
    ),
}
_NOT_ITS_DATA = {"alembic_version"}


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of the original: the tables that it needs, and those that it may have."""

    name: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


_GROUPS = ("cdr", "groups", "dates", "association")
LAST = Generation(
    "2016-2017: movements of voice and data, plans",
    ("users", "voice_balance", "data_balance", "schedule", "schedule_user", "schedule_input"),
    ("schedule_contract",),
)
BOTH_BALANCES = Generation("May 2016: both balances on the user, groups", ("users", "balance", *_GROUPS))
MOVEMENTS = Generation("2015-2016: the balance is the sum of its movements", ("users", "balance", *_GROUPS))
FIRST = Generation("2015: a balance with a fraction on the user", ("users",), _GROUPS)


class Original:
    """An open original database: its generation, its rows, and what is not read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Recognise the generation. Raises `InvalidValue` if the database is no original, or incomplete."""
        self._connection = connection
        found = {str(name) for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        found = {name for name in found if not name.startswith("sqlite_")} - _NOT_ITS_DATA
        known = {old for table in _TABLES.values() for old in table.names}
        if {"subscriber", "transfer"} <= found:
            raise InvalidValue("it is a database of this program, not of the original")
        if not found & known:
            raise InvalidValue("it has none of the tables of an original database")
        if found - known:
            raise InvalidValue(
                f"no version of the original had a table {min(found - known)}:"
                " if it is not needed, drop it in a copy of the file, and import that"
            )
        self._names = {
            table: next(old for old in facts.names if old in found)
            for table, facts in _TABLES.items()
            if found.intersection(facts.names)
        }
        self._columns = {table: self._recognise_columns(table) for table in self._names}
        self.generation = self._recognise_generation()
        missing = set(self.generation.needs) - self._names.keys()
        if missing:
            raise InvalidValue(f"the table {min(missing)} is missing (it looks like {self.generation.name})")
        self.tables_read = [each for each in (*self.generation.needs, *self.generation.may) if each in self._names]
        self.other_tables = {
            name: count
            for name in found - {self._names[each] for each in self.tables_read}
            if (count := self._count_rows(name))
        }

    def _recognise_columns(self, table: str) -> dict[str, str]:
        """Return the name in the file of each of our columns that this table has."""
        described = self._connection.execute(f'pragma table_info("{self._names[table]}")').fetchall()
        present = [str(row[1]) for row in described]
        columns = {}
        for ours, names in (_TABLES[table].needs | _TABLES[table].may).items():
            theirs = next((name for name in names if name in present), None)
            if theirs is not None:
                columns[ours] = theirs
            elif ours in _TABLES[table].needs:
                raise InvalidValue(f"the table {self._names[table]} has no column {names[0]}")
        keys = {str(row[1]) for row in described if row[5] and str(row[2]).upper() == "INTEGER"}
        if "id" in columns and columns["id"] not in keys:
            raise InvalidValue(f"the column {columns['id']} of the table {self._names[table]} is not its key")
        return columns

    def find_other_columns(self) -> Iterator[str]:
        """Yield the columns that are not read: those that no original had, and one that later generations ignored."""
        if self.generation is MOVEMENTS and "balance" in self._columns["users"]:
            yield "users.balance, of the time before the movements"
        for table in self.tables_read:
            for row in self._connection.execute(f'pragma table_info("{self._names[table]}")'):
                if str(row[1]) not in self._columns[table].values():
                    yield read_line(f"{self._names[table]}.{row[1]}", LINE_MAX)

    def _recognise_generation(self) -> Generation:
        if "users" not in self._names:
            raise InvalidValue("the table users is missing")
        if {"voice_balance", "data_balance"} <= self._columns["users"].keys():
            return BOTH_BALANCES if "balance" in self._names and "schedule" not in self._names else LAST
        if "balance" in self._names:
            return MOVEMENTS
        if "balance" in self._columns["users"]:
            return FIRST
        raise InvalidValue(
            "neither the table users has a column voice_balance or balance, nor is there a table balance"
        )

    # -- its rows ------------------------------------------------------------------------------------------------

    def count_rows(self, table: str) -> int:
        """Return the number of rows of a table; 0 if it does not exist."""
        return self._count_rows(self._names[table]) if table in self._names else 0

    def _count_rows(self, name: str) -> int:
        (count,) = self._connection.execute(f'select count(*) from "{name}"').fetchone()  # noqa: S608  its own name
        return int(count)

    def _rows(self, table: str, *columns: str) -> Iterator[Sequence[Raw]]:
        """Return these columns of all rows, in the order in which the rows were made."""
        if table not in self.tables_read:
            return iter(())
        mine = self._columns[table]
        wanted = ", ".join(f'"{mine[each]}"' if each in mine else "null" for each in columns)
        order = f'"{mine["id"]}"' if "id" in mine else self._order_of(self._names[table], len(columns))
        return self._connection.execute(f'select {wanted} from "{self._names[table]}" order by {order}')  # noqa: S608

    def _order_of(self, name: str, columns: int) -> str:
        """Return the columns that order the rows of a table without a key. The table may have been created again."""
        try:
            self._connection.execute(f'select rowid from "{name}" limit 0')  # noqa: S608  its own name
        except sqlite3.OperationalError:  # WITHOUT ROWID
            return ", ".join(map(str, range(1, columns + 1)))
        return "rowid"

    def read_users(self) -> Iterator[OldUser]:
        """Yield the users. Their balance is ``None`` if it is the sum of the movements."""
        known = ("id", "username", "password", "name", "address", "cpf", "clid", "imsi", "level", "admin")
        if self.generation is FIRST:
            balances: tuple[str, ...] = ("balance",)
        else:
            balances = () if self.summed else ("voice_balance", "data_balance")
        nothing = [0 if self.generation is FIRST else None] * (2 - len(balances))
        for row_id, *facts in self._rows("users", *known, *balances):
            if not isinstance(row_id, int):  # the key of a table WITHOUT ROWID may be anything
                raise InvalidValue(f"the table users has a row whose key is no whole number: {read_line(row_id, 40)!r}")
            yield OldUser(row_id, *facts, *nothing)

    @property
    def summed(self) -> bool:
        """Whether balances are the sums of movements, and not in the file."""
        return self.generation is MOVEMENTS

    @property
    def has_admin(self) -> bool:
        """Whether users have a mark for administrators in place of a level."""
        return "level" not in self._columns["users"]

    @property
    def calls_move(self) -> bool:
        """Whether the calls themselves moved the balances."""
        return self.generation is FIRST

    def read_movements(self) -> list[Iterator[OldMovement]]:
        """Return iterators of the movements, each in the order in which they were made."""
        if self.generation is LAST:
            return [self._voice(), self._data()]
        return [self._cdr()] if self.calls_move else [self._balance()]

    def _voice(self) -> Iterator[OldMovement]:
        plan = self._plans_of("voice_balance_id")
        columns = ("id", "from_user_id", "value", "date", "origin", "to_user_id")
        for key, user_id, value, date, origin, to_user_id in self._rows("voice_balance", *columns):
            facts = (user_id, value, None, date, origin, to_user_id, None, None, plan.get(key))
            yield OldMovement(_row("voice_balance", key), Kind.VOICE, *facts)

    def _data(self) -> Iterator[OldMovement]:
        plan = self._plans_of("data_balance_id")
        columns = ("id", "user_id", "value", "date", "origin", "user_ip", "connection_ip")
        for key, user_id, value, date, origin, user_ip, connection_ip in self._rows("data_balance", *columns):
            facts = (user_id, value, None, date, origin, None, user_ip, connection_ip, plan.get(key))
            yield OldMovement(_row("data_balance", key), Kind.DATA, *facts)

    def _plans_of(self, column: str) -> dict[Raw, Raw]:
        """Return the names of the plans that made movements, by the keys of the movements."""
        names = {key: name for key, name in self._rows("schedule", "id", "name")}  # noqa: C416  a dict() of pairs
        return {key: names.get(plan) for plan, key in self._rows("schedule_input", "schedule_id", column) if key}

    def _balance(self) -> Iterator[OldMovement]:
        columns = ("id", "user_id", "value", "signal", "date", "kind")
        for row_id, user_id, value, sign, date, kind in self._rows("balance", *columns):
            pot = Kind.DATA if kind == "data" else Kind.VOICE
            yield OldMovement(_row("balance", row_id), pot, user_id, value, sign or "", date, None)

    def _cdr(self) -> Iterator[OldMovement]:
        for call in self._calls():
            yield OldMovement(
                call.row, Kind.VOICE, call.user_id, call.billsec, "-", call.answer, "call", call.to_user_id
            )

    def read_separate_calls(self) -> Iterator[OldCall]:
        """Return the calls that are recorded apart from the movements that charged them."""
        return iter(()) if self.calls_move else self._calls()

    def _calls(self) -> Iterator[OldCall]:
        columns = ("id", "from_user_id", "to_user_id", "answer", "billsec")
        for row_id, *facts in self._rows("cdr", *columns):
            yield OldCall(_row("cdr", row_id), *facts)

    def read_plans(self) -> Iterator[OldPlan]:
        """Yield the plans."""
        for row_id, name, day, value, kind, date in self._rows(
            "schedule", "id", "name", "day", "value", "kind", "date"
        ):
            yield OldPlan(_row("schedule", row_id), name, day, value, kind, (date,))
        dates: dict[Raw, list[Raw]] = {}
        for group_id, date in self._rows("dates", "group_id", "date"):
            dates.setdefault(group_id, []).append(date)
        for row_id, name, date in self._rows("groups", "id", "name", "date"):
            yield OldPlan(_row("groups", row_id), name, None, None, None, (date, *dates.get(row_id, ())))

    def read_members(self) -> Iterator[OldMember]:
        """Yield the members of plans."""
        for row_id, plan_id, user_id, count in self._rows("schedule_user", "id", "plan_id", "user_id", "count"):
            row = _row("schedule_user", row_id if row_id is not None else f"{read_text(user_id)}-{read_text(plan_id)}")
            yield OldMember(row, _row("schedule", plan_id), user_id, count)
        for plan_id, user_id in self._rows("association", "plan_id", "user_id"):
            row = _row("association", f"{read_text(user_id)}-{read_text(plan_id)}")
            yield OldMember(row, _row("groups", plan_id), user_id, None)

    def read_contracts(self) -> Iterator[OldContract]:
        """Yield the renewals of memberships."""
        for row_id, member_id, date, months in self._rows(
            "schedule_contract", "id", "schedule_user_id", "date", "months"
        ):
            yield OldContract(_row("schedule_contract", row_id), _row("schedule_user", member_id), date, months)


def _row(table: str, key: Raw) -> str:
    return f"{table}:{read_text(key)}"


@contextmanager
def open_original(path: Path) -> Iterator[Original]:
    """Open an original database, read-only, within the context. Raises `InvalidValue`, with a text of one line."""
    if not path.is_file():
        raise InvalidValue(f"{path}: no such file")
    connection = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.execute("begin")
        yield _recognise(path, connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's message may have a name of a damaged file in it
        raise InvalidValue(read_line(f"{path} cannot be read: {error}", LINE_MAX)) from None
    finally:
        if connection is not None:
            connection.close()


def _recognise(path: Path, connection: sqlite3.Connection) -> Original:
    try:
        return Original(connection)
    except InvalidValue as error:
        raise InvalidValue(read_line(f"{path} is refused: {error}", LINE_MAX)) from None
