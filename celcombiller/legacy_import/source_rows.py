"""The rows of an original database as frozen values, as they stand: nothing is promised of what is in them.

SQLite keeps any type in any column, and the original was often altered by hand. ``row`` names a row: ``table:id``.
"""

from __future__ import annotations

from dataclasses import dataclass

from celcombiller.core.model.accounts import Kind

Raw = int | float | str | bytes | None
"""What SQLite may keep in a column, whatever the column's declared type."""

KINDS = (Kind.VOICE, Kind.DATA)
"""The kinds of credit that it had."""


@dataclass(frozen=True, slots=True)
class OldUser:
    """A row of ``users``; what its generation did not have is ``None``."""

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
    """A row that moved a balance: of ``voice_balance`` or ``data_balance``, of ``balance`` before, of ``cdr`` at first.

    ``sign`` is ``+`` or ``-`` where the generation kept it apart from the value. ``plan`` is the name of the plan that
    gave it. ``row`` names it: ``table:id``.
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
    """A row of ``schedule_user``, or of ``association``, which has no count: the group's dates are counted."""

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
