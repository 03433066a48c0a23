"""Rows of an original database as frozen values, unchecked.

SQLite keeps any type in any column, and original databases were often edited by hand. ``row`` names a row:
``table:id``.
"""

from __future__ import annotations

from dataclasses import dataclass

from celcombiller.core.model.accounts import Kind

Raw = int | float | str | bytes | None
"""What SQLite may keep in a column, whatever its declared type."""

KINDS = (Kind.VOICE, Kind.DATA)
"""The kinds of credit of the original."""


@dataclass(frozen=True, slots=True)
class OldUser:
    """A row of ``users``. Columns that its generation did not have are ``None``."""

    id: int
    username: Raw
    password: Raw
    name: Raw
    address: Raw
    cpf: Raw
    clid: Raw
    imsi: Raw
    level: Raw
    admin: Raw
    voice: Raw
    data: Raw


@dataclass(frozen=True, slots=True)
class OldMovement:
    """A row that moved a balance: of ``voice_balance`` or ``data_balance``, or earlier ``balance``, or first ``cdr``.

    ``sign`` is ``+`` or ``-`` if the generation kept it apart from the value. ``plan`` is the name of the plan that
    credited it.
    """

    row: str
    kind: Kind
    user_id: Raw
    value: Raw
    sign: Raw
    date: Raw
    origin: Raw
    to_user_id: Raw = None
    user_ip: Raw = None
    connection_ip: Raw = None
    plan: Raw = None


@dataclass(frozen=True, slots=True)
class OldCall:
    """A row of ``cdr``."""

    row: str
    user_id: Raw
    to_user_id: Raw
    answer: Raw
    billsec: Raw


@dataclass(frozen=True, slots=True)
class OldPlan:
    """A row of ``schedule``, or of ``groups`` with its dates."""

    row: str
    name: Raw
    day: Raw
    value: Raw
    kind: Raw
    dates: tuple[Raw, ...]


@dataclass(frozen=True, slots=True)
class OldMember:
    """A row of ``schedule_user``; or of ``association``, which has no count: the dates of its group are counted."""

    row: str
    plan: str
    user_id: Raw
    count: Raw


@dataclass(frozen=True, slots=True)
class OldContract:
    """A row of ``schedule_contract``."""

    row: str
    member: str
    date: Raw
    months: Raw
