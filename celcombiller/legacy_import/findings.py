"""Oddities that an import finds: each kind is a sentence for the operator, with the rows that it concerns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Oddity(StrEnum):
    """A kind of oddity: what was found, and what was done."""

    # Left out: the operator has to decide.
    CONFLICT = "left out: another subscriber here has a part of this user's identities"
    NO_NUMBER = "left out: a number (clid) is 1 to 15 digits"
    DUPLICATE = "left out: a user before this one has the same username, number or IMSI"
    NO_BALANCE = "left out: a balance that is no number, or too big for any"
    BAD_PLAN = "left out: a plan's day is 1 to 31, its kind 1 to 3, its value a whole number from 0"
    BAD_MEMBER = "left out: a member's count is a whole number"
    CHANGED = "left alone: changed in the original since it was imported, otherwise than by new rows"
    # Left out: nothing can be done, and only the row itself is lost.
    ORPHAN = "left out: rows of a user or plan that is not there or was left out"
    NO_VALUE = "left out: rows that moved no credit, or no whole number of it"
    BAD_CONTRACT = "left out: contracts without a date or a number of months"
    UNPROVED_CALL = "left out: calls whose charge is not among the movements (they moved no credit)"
    OTHER_TABLE = "not read: a table of another time of the original that still has rows"
    OTHER_COLUMN = "not read: a column that this generation of the original did not have"
    TOO_LONG_A_CHAIN = "balance imported, history not: on the way it is too big for any balance"
    # Converted with changes.
    WEAK_PASSWORD = "weak passwords: have them changed"  # noqa: S105
    NUMBER_PASSWORD = "passwords kept as a number by the original: zeros in front were lost in it"  # noqa: S105
    NO_PASSWORD = "no password: cannot log in until one is set"  # noqa: S105
    FRACTION = "balances with a fraction, rounded down"
    NEGATIVE = "balances below zero, imported as they stand"
    EMPTY_BALANCE = "balances that were empty, imported as 0"
    IMSI_ZEROS = "IMSIs that had lost their zeros in front, given back (001, the only country code that begins so)"
    SHORT_IMSI = "IMSIs of fewer than 15 digits, imported as they stand"
    NO_IMSI = "no usable IMSI: zeros and the number stand in its place"
    CPF_SHORT = "CPFs of fewer than 11 digits: zeros in front were lost, or they are none"
    CPF_DROPPED = "CPFs that are not digits or another's: imported without"
    RENAMED = "usernames changed: empty, too long, or not of Latin letters, digits and signs without spaces or slashes"
    LEVEL = "levels other than 0, 1 and 2, imported as 1 (user)"
    TEXT = "texts with control characters or too long, cleaned"
    DATE = "dates that cannot be read: that of the row before (else of the row after) stands in their place"
    BELOW_ZERO = "movements that took a balance below zero in the original (noted in the statement)"
    MEMBER_TWICE = "memberships of one user in one plan, made one with the runs of both"
    MEMBER_OVER = "memberships without runs left, imported as ended"
    MEMBER_HERE = "members that are members here already, left as they are"
    NO_PLAN_VALUE = "plans whose value, kind or day the original did not keep: disabled until you set them"
    PLAN_OVER_28 = "plans of a day after the 28th: the last day of a month that has no such day"
    # Good to know.
    MATCHED = "users who are subscribers here already: the old balance was added to theirs"
    ADOPTED = "administrators as `init` made them who took over the old number and IMSI; the password is the new one"


SERIOUS = frozenset(
    {Oddity.CONFLICT, Oddity.NO_NUMBER, Oddity.DUPLICATE, Oddity.NO_BALANCE, Oddity.BAD_PLAN, Oddity.BAD_MEMBER}
    | {Oddity.CHANGED}
)
"""A user's credit or plan was not imported: the exit status of the command shows it."""


@dataclass(slots=True)
class Findings:
    """The oddities found, with their rows."""

    found: dict[Oddity, list[str]] = field(default_factory=dict)

    def note(self, oddity: Oddity, what: str) -> None:
        """Record an oddity."""
        self.found.setdefault(oddity, []).append(what)

    def copy(self) -> Findings:
        """Return a copy, to which more can be added."""
        return Findings({oddity: list(rows) for oddity, rows in self.found.items()})

    @property
    def serious(self) -> bool:
        """Whether a user's credit or plan was left out."""
        return not SERIOUS.isdisjoint(self.found)
