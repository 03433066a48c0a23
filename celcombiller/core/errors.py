"""What can be refused or go wrong, each with a stable code.

A code never changes once released: the AGI sets it as ``CELCOMBILLER_RESULT``, the command prints it and the
API answers it. The facts are attributes of the exception; its sentence is for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


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


class WrongFields(BillerError):
    """Something is wrong with named fields: ``fields`` says of each what."""

    def __init__(self, sentence: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.fields = dict(fields or {})


class AlreadyTaken(WrongFields):
    """Another subscriber has this username, number, IMSI or CPF."""

    code = "TAKEN"


class InvalidValue(WrongFields):
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


class NetworkUnavailable(BillerError):
    """A radio network did not answer in time, or not in its own language."""

    code = "NETWORK_UNAVAILABLE"


class SchemaMismatch(BillerError):
    """The database was made by an older or a newer program than this one."""

    code = "SCHEMA"


class NotFound(BillerError):
    """There is no such thing, or none that this client may see."""

    code = "NOT_FOUND"


class LastAdministrator(BillerError):
    """Without this administrator nobody could manage the biller."""

    code = "LAST_ADMINISTRATOR"


class NotAuthenticated(BillerError):
    """The request says nothing, or nothing that holds any more, of who asks."""

    code = "NOT_AUTHENTICATED"


class Forbidden(BillerError):
    """Who asks is known, and may not do this."""

    code = "FORBIDDEN"


class TooManyAttempts(BillerError):
    """Too many logins failed; ``retry_seconds`` says when the next may be tried."""

    code = "TOO_MANY_ATTEMPTS"

    def __init__(self, sentence: str, retry_seconds: int) -> None:
        super().__init__(sentence)
        self.retry_seconds = retry_seconds


class TooSlow(BillerError):
    """The question would take the database too long; a narrower one would not."""

    code = "TOO_SLOW"


class BrokenRequest(BillerError):
    """The request cannot be read: its JSON, its encoding, its query."""

    code = "BROKEN_REQUEST"


class TooLarge(BillerError):
    """The request's body is larger than `rest.body_kib_max` allows."""

    code = "TOO_LARGE"


class WrongMediaType(BillerError):
    """The body is not JSON, or does not say that it is."""

    code = "WRONG_MEDIA_TYPE"


class WrongMethod(BillerError):
    """This address has no such method; of ledger rows: nothing recorded is edited or deleted."""

    code = "WRONG_METHOD"


class NotImplementedYet(BillerError):
    """The original program had this; here it needs a setting that is not there."""

    code = "NOT_IMPLEMENTED"
