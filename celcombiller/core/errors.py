"""Refusals and failures, each with a stable code.

A code never changes once it is released: the AGI sets it as ``CELCOMBILLER_RESULT``, the command prints it and the
API answers it. Details for programs are attributes of the exception; its message is for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class BillerError(Exception):
    """A request that the biller refuses or cannot fulfil; ``code`` names the reason for programs."""

    code: ClassVar[str] = "FAILED"


class ConfigError(BillerError):
    """A setting is wrong: the message names the file, the key and what is allowed."""

    code = "CONFIG"


class InsufficientBalance(BillerError):
    """The account has less available than was requested."""

    code = "NO_CREDIT"


class UnknownSubscriber(BillerError):
    """No subscriber has this account code, number, IMSI or username."""

    code = "UNKNOWN"


class SubscriberDisabled(BillerError):
    """The subscriber exists but may not use the service."""

    code = "DISABLED"


class BadNumber(BillerError):
    """The called number has characters that no number has, or there is no route to it."""

    code = "BAD_NUMBER"


class NoRate(BillerError):
    """The price list has no row for this number."""

    code = "NO_RATE"


class Barred(BillerError):
    """The subscriber may not call this number: a prefix of it is barred, for them or for their group."""

    code = "BARRED"


class TooManyCalls(BillerError):
    """The subscriber has as many calls at once as they may have."""

    code = "TOO_MANY_CALLS"


class GroupFull(BillerError):
    """The subscriber's group has as many calls at once as it may have."""

    code = "GROUP_FULL"


class NoTrunk(BillerError):
    """The number has a route, but all trunks of it are full or disabled."""

    code = "NO_TRUNK"


class TooExpensive(BillerError):
    """The first increment of the call costs more than a call of the subscriber's group may cost."""

    code = "TOO_EXPENSIVE"


class WrongFields(BillerError):
    """Named fields are wrong: ``fields`` maps each field to what is wrong with it."""

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})


class AlreadyTaken(WrongFields):
    """Another has it: this username, number, IMSI or CPF, this name of a schedule, tariff, group or trunk, ..."""

    code = "TAKEN"


class InvalidValue(WrongFields):
    """A value does not have the form that its field requires."""

    code = "INVALID"


class TransferConflict(BillerError):
    """A transfer with this id exists with different content."""

    code = "CONFLICT"


class HoldNotOpen(BillerError):
    """The hold was settled, released or expired before, or was never made."""

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


class UnknownTariff(BillerError):
    """No tariff has this id or name, or no version of it this number, or it was deleted."""

    code = "UNKNOWN_TARIFF"


class UnknownGroup(BillerError):
    """No group of subscribers has this id or name, or it was deleted."""

    code = "UNKNOWN_GROUP"


class UnknownTrunk(BillerError):
    """No trunk has this id or name, or it was deleted."""

    code = "UNKNOWN_TRUNK"


class UnknownRoute(BillerError):
    """No route has this id or prefix, or it was deleted."""

    code = "UNKNOWN_ROUTE"


class VersionConflict(BillerError):
    """A version of a tariff would take effect out of the order of their numbers, or is no longer a waiting one."""

    code = "VERSION_CONFLICT"


class InUse(BillerError):
    """Something else still uses it, so it cannot be deleted or changed in this way."""

    code = "IN_USE"


class StoreUnavailable(BillerError):
    """The database cannot be opened, is locked, or did not answer in time."""

    code = "UNAVAILABLE"


class Overloaded(BillerError):
    """The biller does too much at once: send it again in a moment."""

    code = "OVERLOADED"


class NetworkUnavailable(BillerError):
    """A radio network did not answer in time, or its answer could not be understood."""

    code = "NETWORK_UNAVAILABLE"


class SchemaMismatch(BillerError):
    """The database has the schema of an older or a newer version of this program."""

    code = "SCHEMA"


class NotFound(BillerError):
    """It does not exist, or this client may not see it."""

    code = "NOT_FOUND"


class LastAdministrator(BillerError):
    """Without this administrator no one could manage the biller."""

    code = "LAST_ADMINISTRATOR"


class NotAuthenticated(BillerError):
    """The request has no credentials, or its credentials are no longer valid."""

    code = "NOT_AUTHENTICATED"


class Forbidden(BillerError):
    """The client is authenticated but may not do this."""

    code = "FORBIDDEN"


class TooManyAttempts(BillerError):
    """Too many logins failed; ``retry_seconds`` says when the next may be tried."""

    code = "TOO_MANY_ATTEMPTS"

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class TooSlow(BillerError):
    """The query would take the database too long; a narrower one would not."""

    code = "TOO_SLOW"


class BrokenRequest(BillerError):
    """The request cannot be parsed: its JSON, its encoding or its query string."""

    code = "BROKEN_REQUEST"


class TooLarge(BillerError):
    """The request's body is larger than `rest.body_kib_max` or, of a file, `rest.upload_mib_max` allows."""

    code = "TOO_LARGE"


class WrongMediaType(BillerError):
    """The body is not JSON, or is not declared as JSON."""

    code = "WRONG_MEDIA_TYPE"


class WrongMethod(BillerError):
    """This address does not support the method. Ledger rows, for example, are never edited or deleted."""

    code = "WRONG_METHOD"


class NotImplementedYet(BillerError):
    """The original program had this; here it needs a setting that is not set."""

    code = "NOT_IMPLEMENTED"
