"""What can be refused or go wrong, each with a stable code.

A code never changes once released: the AGI sets it as ``CELCOMBILLER_RESULT``, the command prints it and the
API answers it. The facts are attributes of the exception; its sentence is for people.
"""

from __future__ import annotations

from typing import ClassVar


class BillerError(Exception):
    """Something the biller refuses or cannot do; ``code`` says what, for programs."""

    code: ClassVar[str] = "FAILED"


class ConfigError(BillerError):
    """A setting is wrong: the sentence names the file, the key and what is allowed."""

    code = "CONFIG"


class InsufficientBalance(BillerError):
    """The account has less available than is asked for."""

    code = "NO_CREDIT"


class UnknownSubscriber(BillerError):
    """Nobody has this account code, number, IMSI or username."""

    code = "UNKNOWN"


class SubscriberDisabled(BillerError):
    """The subscriber is there but may not use the service."""

    code = "DISABLED"


class BadNumber(BillerError):
    """The called number has characters no number has, or there is no way to it."""

    code = "BAD_NUMBER"


class NoRate(BillerError):
    """The price list has no row for this number."""

    code = "NO_RATE"


class AlreadyTaken(BillerError):
    """Another subscriber has this username, number, IMSI or CPF."""

    code = "TAKEN"


class InvalidValue(BillerError):
    """A value is not of the shape its field demands."""

    code = "INVALID"


class TransferConflict(BillerError):
    """A transfer with this id exists and says something else."""

    code = "CONFLICT"


class HoldNotOpen(BillerError):
    """The hold was settled, released or expired before, or never made."""

    code = "HOLD_NOT_OPEN"


class UnknownCall(BillerError):
    """No call of this server and uniqueid was ever authorized."""

    code = "UNKNOWN_CALL"


class UnknownSchedule(BillerError):
    """No schedule has this id or name, or it was deleted."""

    code = "UNKNOWN_SCHEDULE"


class UnknownMembership(BillerError):
    """The subscriber is not, or no longer, in the schedule."""

    code = "UNKNOWN_MEMBERSHIP"


class StoreUnavailable(BillerError):
    """The database cannot be opened, is locked, or did not answer in time."""

    code = "UNAVAILABLE"


class SchemaMismatch(BillerError):
    """The database was made by an older or a newer program than this one."""

    code = "SCHEMA"
