"""Errors as answers: the status of each error, and the two forms of its body.

``/api/v1`` answers with a problem document (RFC 9457), the routes of the original program with ``{"message": …}``.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.web import http

from celcombiller.core import errors

STATUS: dict[type[errors.BillerError], int] = {
    errors.BrokenRequest: http.BAD_REQUEST,
    errors.NotAuthenticated: http.UNAUTHORIZED,
    errors.Forbidden: http.FORBIDDEN,
    errors.SubscriberDisabled: http.FORBIDDEN,
    errors.SubscriberSuspended: http.FORBIDDEN,
    errors.Barred: http.FORBIDDEN,
    errors.NotOffered: http.FORBIDDEN,
    errors.SellerDisabled: http.FORBIDDEN,
    errors.WrongPin: http.FORBIDDEN,
    errors.SecondFactorNeeded: http.FORBIDDEN,
    errors.WrongSecondFactor: http.FORBIDDEN,
    errors.PasswordNeeded: http.FORBIDDEN,
    errors.UntrustedSender: http.FORBIDDEN,
    errors.NotFound: http.NOT_FOUND,
    errors.UnknownSubscriber: http.NOT_FOUND,
    errors.UnknownSeller: http.NOT_FOUND,
    errors.UnknownCall: http.NOT_FOUND,
    errors.UnknownSchedule: http.NOT_FOUND,
    errors.UnknownMembership: http.NOT_FOUND,
    errors.UnknownTariff: http.NOT_FOUND,
    errors.UnknownTrunk: http.NOT_FOUND,
    errors.UnknownRoute: http.NOT_FOUND,
    errors.UnknownGroup: http.NOT_FOUND,
    errors.UnknownVoucher: http.NOT_FOUND,
    errors.WrongMethod: http.NOT_ALLOWED,
    errors.AlreadyTaken: http.CONFLICT,
    errors.TransferConflict: http.CONFLICT,
    errors.InsufficientBalance: http.CONFLICT,
    errors.DayLimitReached: http.CONFLICT,
    errors.SaleTooLarge: http.CONFLICT,
    errors.UndoTooLate: http.CONFLICT,
    errors.WrongCode: http.CONFLICT,
    errors.HoldNotOpen: http.CONFLICT,
    errors.TooManyCalls: http.CONFLICT,
    errors.GroupFull: http.CONFLICT,
    errors.LastAdministrator: http.CONFLICT,
    errors.VersionConflict: http.CONFLICT,
    errors.InUse: http.CONFLICT,
    errors.VoucherNotActive: http.CONFLICT,
    errors.VoucherRedeemed: http.CONFLICT,
    errors.VoucherRevoked: http.CONFLICT,
    errors.VoucherExpired: http.CONFLICT,
    errors.BalanceTooHigh: http.CONFLICT,
    errors.TooLate: http.CONFLICT,
    errors.TooLarge: http.REQUEST_ENTITY_TOO_LARGE,
    errors.WrongMediaType: http.UNSUPPORTED_MEDIA_TYPE,
    errors.InvalidValue: 422,
    errors.BadNumber: 422,
    errors.UnknownCommand: 422,
    errors.NoRate: 422,
    errors.NoTrunk: 422,
    errors.TooExpensive: 422,
    errors.TooSlow: 422,
    errors.TooManyAttempts: 429,
    errors.NotImplementedYet: http.NOT_IMPLEMENTED,
    errors.StoreUnavailable: http.SERVICE_UNAVAILABLE,
    errors.SchemaMismatch: http.SERVICE_UNAVAILABLE,
    errors.NotReady: http.SERVICE_UNAVAILABLE,
    errors.Overloaded: http.SERVICE_UNAVAILABLE,
    errors.NetworkUnavailable: http.BAD_GATEWAY,
}
"""The status of each error. Any other error is a fault of the program: 500."""

PROBLEM_TYPE = "application/problem+json"
_TITLES = dict(http.RESPONSES) | {422: b"Unprocessable Content", 429: b"Too Many Requests"}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error (RFC 9457). Programs use ``code``, which never changes once released."""

    type: Annotated[str, Meta(description="the code as a URN")]
    title: Annotated[str, Meta(description="the status in words")]
    status: Annotated[int, Meta(description="the HTTP status")]
    code: Annotated[str, Meta(description="which error it is; it never changes once released")]
    detail: Annotated[str, Meta(description="a sentence for people")]
    remedy: Annotated[str, Meta(description="what can be done about it, for people")] = ""
    fields: Annotated[dict[str, str], Meta(description="the reason for each wrong field")] = {}


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return _TITLES.get(status, b"Error").decode()


def status_of(error: errors.BillerError) -> int:
    """Return the HTTP status of an error."""
    return next((STATUS[each] for each in type(error).__mro__ if each in STATUS), http.INTERNAL_SERVER_ERROR)


def find_remedy(error: errors.BillerError, *, is_staff: bool) -> str:
    """Return what can be done about an error; for subscribers and sellers nothing that takes a command of staff."""
    return error.remedy if is_staff or "`celcombiller " not in error.remedy else ""


def make_problem(error: errors.BillerError, *, is_staff: bool = True) -> Problem:
    """Return an error as a problem document, for staff or for others."""
    status = status_of(error)
    code = error.code
    return Problem(
        type=f"urn:celcombiller:problem:{code.lower().replace('_', '-')}",
        title=reason_phrase(status),
        status=status,
        code=code,
        detail=str(error),
        remedy=find_remedy(error, is_staff=is_staff),
        fields=getattr(error, "fields", {}),
    )


def make_legacy_message(error: errors.BillerError) -> tuple[int, dict[str, Any]]:
    """Return an error as the original program answered it: status and body."""
    text = str(error)
    fields = getattr(error, "fields", {})
    match error:
        case errors.AlreadyTaken():
            status, text = http.CONFLICT, "the user already exists"
        case errors.InvalidValue():
            status = http.BAD_REQUEST
        case errors.WrongMediaType():
            status, text = http.UNSUPPORTED_MEDIA_TYPE, 'Request must have "Content-Type: application/json" header'
        case errors.NotAuthenticated():
            status, text = http.UNAUTHORIZED, f"Not authenticated: {text}"
        case errors.Forbidden():
            status, text = http.FORBIDDEN, f"Forbidden: {text}"
        case errors.InsufficientBalance():
            status, text = http.CONFLICT, f"Insufficient balance: {text}"
        case _:
            status = status_of(error)
    return status, {"message": text} | ({"validation_errors": fields} if fields else {})
