"""Users of the original as subscribers: what is kept, changed or left out. Values only."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers.fields import check
from celcombiller.legacy_import.cell_values import read_line, read_number, read_text, read_whole_number
from celcombiller.legacy_import.findings import Oddity
from celcombiller.legacy_import.source_rows import KINDS
from celcombiller.runtime.credentials.password_hash import LENGTH_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.legacy_import.findings import Findings
    from celcombiller.legacy_import.source_database import Original
    from celcombiller.legacy_import.source_rows import OldUser, Raw

PUBLISHED_PASSWORDS = frozenset({"adm123", "123123", "yourpassword", "yournewpassowrd"})
"""The passwords in the original's README and in its script for the first users. They are public."""

_CPF_DIGITS = 11
_IMSI_DIGITS = 15
_NOT_IN_USERNAMES = re.compile(r"[^!-.0-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]+")
_BETWEEN_DIGITS = re.compile(r"[\s().-]+")


@dataclass(frozen=True, slots=True)
class NewSubscriber:
    """A user as a subscriber, with their password in clear.

    ``lost_zeros``: the original kept the password as a number, so zeros at its beginning are lost.
    """

    old_id: int
    username: str
    name: str
    clid: str
    imsi: str
    cpf: str | None
    address: str
    level: Level
    password: str | None
    lost_zeros: bool
    balances: dict[Kind, int]

    @property
    def row(self) -> str:
        """The user's row in the original."""
        return f"users:{self.old_id}"


def convert_users(
    original: Original, sums: Mapping[tuple[Raw, Kind], Decimal] | None, findings: Findings
) -> dict[int, NewSubscriber]:
    """Return the users who can be subscribers, by their old ids. ``sums`` are balances that the file does not have."""
    made: dict[int, NewSubscriber] = {}
    taken: dict[str, set[str]] = {field: set() for field in ("username", "clid", "imsi", "cpf")}
    for old in original.read_users():
        note = _Note(old, findings)
        pots: dict[Kind, Raw | Decimal] = {Kind.VOICE: old.voice, Kind.DATA: old.data}
        if sums is not None:
            pots = {kind: sums.get((old.id, kind), 0) for kind in KINDS}
        new = _subscriber(old, pots, note, has_admin=original.has_admin)
        if new is None:
            continue
        twice = next((field for field in ("username", "clid", "imsi") if getattr(new, field) in taken[field]), None)
        if twice is not None or new.old_id in made:
            note(Oddity.DUPLICATE, f"{twice} {getattr(new, twice)}" if twice else "the id")
            continue
        if new.cpf in taken["cpf"]:
            note(Oddity.CPF_DROPPED, f"{new.cpf} is another user's")
            new = replace(new, cpf=None)
        for field, values in taken.items():
            values.add(getattr(new, field) or "")
        made[new.old_id] = new
    return made


@dataclass(frozen=True, slots=True)
class _Note:
    """Records oddities of one user."""

    old: OldUser
    findings: Findings

    def __call__(self, oddity: Oddity, what: str = "") -> None:
        who = read_line(self.old.username, 64) or read_line(self.old.clid, 64)
        self.findings.note(oddity, f"{who} (users:{self.old.id}){what and f': {what}'}")


def _subscriber(
    old: OldUser, pots: Mapping[Kind, Raw | Decimal], note: _Note, *, has_admin: bool
) -> NewSubscriber | None:
    clid = _digits(old.clid)
    try:
        check("clid", clid)
    except InvalidValue:
        note(Oddity.NO_NUMBER, read_line(old.clid, 64) or "none")
        return None
    balances = {kind: credits_ for kind, pot in pots.items() if (credits_ := _balance(pot, kind, note)) is not None}
    if len(balances) < len(KINDS):
        return None
    username = _username(old, clid, note)
    return NewSubscriber(
        old_id=old.id,
        username=username,
        name=_words(old.name, 200, note) or username,
        clid=clid,
        imsi=_imsi(old, clid, note),
        cpf=_cpf(old, note),
        address=_words(old.address, 500, note),
        level=_level(old, note, has_admin=has_admin),
        password=read_text(old.password) or None,
        lost_zeros=isinstance(old.password, int),
        balances=balances,
    )


def _balance(pot: Raw | Decimal, kind: Kind, note: _Note) -> int | None:
    """Return a balance in whole credits, rounded down; ``None`` if it is no number, or too large."""
    if pot is None:
        note(Oddity.EMPTY_BALANCE, kind)
        return 0
    found = pot if isinstance(pot, Decimal) else read_number(pot)
    if found is None or abs(found) > AMOUNT_MAX:
        note(Oddity.NO_BALANCE, f"{kind} {pot!r:.64}")
        return None
    credits_ = math.floor(found)
    if credits_ != found:
        note(Oddity.FRACTION, f"{kind} {found} is {credits_}")
    if credits_ < 0:
        note(Oddity.NEGATIVE, f"{kind} {credits_}")
    return credits_


def _digits(cell: Raw) -> str:
    return _BETWEEN_DIGITS.sub("", read_text(cell)).removeprefix("+")


def _username(old: OldUser, clid: str, note: _Note) -> str:
    if old.username is None:
        return clid  # the first generation had no usernames, and later ones did not require them
    written = read_text(old.username)
    username = _NOT_IN_USERNAMES.sub("_", unicodedata.normalize("NFC", written).strip())[:64]
    if not any(map(str.isalnum, username)):
        username = clid
    if username != written:
        note(Oddity.RENAMED, username)
    return username


def _words(cell: Raw, most: int, note: _Note) -> str:
    words = read_line(cell, most)
    if words != read_text(cell).strip():
        note(Oddity.TEXT, words)
    return words


def _imsi(old: OldUser, clid: str, note: _Note) -> str:
    """Return the IMSI, with the zeros that a column of numbers lost.

    Only the country code 001, of test networks, begins with zeros, and none begins with 1 (ITU-T E.212). So 13 digits
    that begin with 1 have lost two zeros. No country code is 000: a number after zeros is a placeholder, as it is for
    the administrator that ``init`` makes.
    """
    imsi = _digits(old.imsi)
    if len(imsi) == _IMSI_DIGITS - 2 and imsi.startswith("1"):
        note(Oddity.IMSI_ZEROS, f"00{imsi}")
        imsi = f"00{imsi}"
    try:
        check("imsi", imsi)
    except InvalidValue:
        imsi = ""
    if not imsi.strip("0"):
        placeholder = clid[-12:].zfill(_IMSI_DIGITS)
        note(Oddity.NO_IMSI, f"{read_line(old.imsi, 64) or 'none'}, now {placeholder}")
        return placeholder
    if len(imsi) < _IMSI_DIGITS:
        note(Oddity.SHORT_IMSI, imsi)
    return imsi


def _cpf(old: OldUser, note: _Note) -> str | None:
    if old.cpf is None or not read_text(old.cpf).strip():
        return None
    cpf = _digits(old.cpf)
    try:
        check("cpf", cpf)
    except InvalidValue:
        note(Oddity.CPF_DROPPED, read_line(old.cpf, 64))
        return None
    if len(cpf) < _CPF_DIGITS:
        note(Oddity.CPF_SHORT, cpf)
    return cpf


def _level(old: OldUser, note: _Note, *, has_admin: bool) -> Level:
    if has_admin:
        return Level.ADMINISTRATOR if read_whole_number(old.admin) else Level.SUBSCRIBER
    level = read_whole_number(old.level)
    if level in set(Level):
        return Level(level)
    note(Oddity.LEVEL, read_line(old.level, 64) or "none")
    return Level.SUBSCRIBER


def check_password(user: NewSubscriber, findings: Findings) -> None:
    """Record the oddities of a new subscriber's password."""
    who = f"{user.username} ({user.row})"
    if user.password is None:
        findings.note(Oddity.NO_PASSWORD, who)
        return
    if user.lost_zeros:
        findings.note(Oddity.NUMBER_PASSWORD, who)
    reason = describe_weakness(user.password, user.username)
    if reason:
        findings.note(Oddity.WEAK_PASSWORD, f"{who}: {reason}")


def describe_weakness(password: str, username: str) -> str:
    """Return why a password is weak; an empty text if it is not."""
    if password in PUBLISHED_PASSWORDS:
        return "published with the original"
    if password.casefold() == username.casefold():
        return "the username"
    if len(password) < LENGTH_MIN:
        return f"fewer than {LENGTH_MIN} characters"
    return "digits only" if password.isdecimal() else ""
