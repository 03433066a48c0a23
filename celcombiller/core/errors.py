"""Refusals and failures, each with a stable code.

A code never changes once it is released: the AGI sets it as ``CELCOMBILLER_RESULT``, the command prints it and the
API answers it. Details for programs are attributes of the exception; its message is for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class BillerError(Exception):
    """A request that the biller refuses or cannot fulfil; ``code`` names the reason for programs.

    ``remedy`` says what who gets it can do; a message that knows more says more.
    """

    code: ClassVar[str] = "FAILED"
    remedy: ClassVar[str] = ""


class ConfigError(BillerError):
    """A setting is wrong: the message names the file, the key and what is allowed."""

    code = "CONFIG"


class InsufficientBalance(BillerError):
    """The account has less available than was requested."""

    code = "NO_CREDIT"
    remedy = (
        "Give the subscriber credit (`celcombiller credit`), or raise their credit limit or limits of spending "
        "(`celcombiller limit`)."
    )


class SharedBalance(InsufficientBalance):
    """Open calls of the same subscriber hold what a new call would need: they could leave it a part."""

    def __init__(self, message: str, subscriber_id: int) -> None:
        super().__init__(message)
        self.subscriber_id = subscriber_id


class UnknownSubscriber(BillerError):
    """No subscriber has this account code, number, IMSI or username."""

    code = "UNKNOWN"
    remedy = (
        "Look at the name or the number; `celcombiller user list` has all. A call's `accountcode` must be a "
        "username or a number."
    )


class SubscriberDisabled(BillerError):
    """The subscriber exists but may not use the service."""

    code = "DISABLED"
    remedy = "Enable the subscriber (`celcombiller user enable`)."


class SubscriberSuspended(BillerError):
    """The subscriber owes a fee for too long: they may call chosen numbers only."""

    code = "SUSPENDED"
    remedy = (
        "Give the subscriber credit: the fee is taken within a minute, and they are on again. `celcombiller fee list` "
        "shows what is unpaid, `celcombiller fee waive` forgives it."
    )


class BadNumber(BillerError):
    """The called number has characters that no number has, or there is no route to it."""

    code = "BAD_NUMBER"
    remedy = (
        "Dial digits, `*` and `#` only. For numbers outside make a route (`celcombiller route add`), or set "
        "`calls.external_dial`; for messages `sms.off_net_route`."
    )


class NoRate(BillerError):
    """The price list has no row for this number."""

    code = "NO_RATE"
    remedy = (
        "Add a rate for the number's prefix to the tariff (`celcombiller tariff`), or `[[rates]]` to the "
        "settings. `celcombiller rate` tries it."
    )


class Barred(BillerError):
    """The subscriber may not call this number: a prefix of it is barred, for them or for their group."""

    code = "BARRED"
    remedy = (
        "Change `barred` or `allowed` of the subscriber (`celcombiller user change`) or of the group "
        "(`celcombiller group change`)."
    )


class TooManyCalls(BillerError):
    """The subscriber has as many calls at once as they may have."""

    code = "TOO_MANY_CALLS"
    remedy = (
        "End one of the calls (`celcombiller live` shows them), or raise `calls_max` of the subscriber or "
        "`subscriber_calls_max` of the group."
    )


class GroupFull(BillerError):
    """The subscriber's group has as many calls at once as it may have."""

    code = "GROUP_FULL"
    remedy = "End one of the group's calls, or raise its `calls_max` (`celcombiller group change`)."


class NoTrunk(BillerError):
    """The number has a route, but all trunks of it are full or disabled."""

    code = "NO_TRUNK"
    remedy = (
        "Enable a trunk of the route or raise its `calls_max` (`celcombiller trunk change`), or add a trunk to "
        "the route."
    )


class TooExpensive(BillerError):
    """The first increment of the call costs more than a call of the subscriber's group may cost."""

    code = "TOO_EXPENSIVE"
    remedy = "Raise `call_cost_max` of the group (`celcombiller group change`), or lower the price."


class WrongFields(BillerError):
    """Named fields are wrong: ``fields`` maps each field to what is wrong with it."""

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = {name: str(what) for name, what in (fields or {}).items()}


class AlreadyTaken(WrongFields):
    """Another has it: this username, number, IMSI or CPF, this name of a schedule, tariff, group or trunk, ..."""

    code = "TAKEN"
    remedy = "Choose another value for the field, or change what has it."


class InvalidValue(WrongFields):
    """A value does not have the form that its field requires."""

    code = "INVALID"
    remedy = "Correct the fields that the sentence names, and send it again."


class TransferConflict(BillerError):
    """A transfer with this id exists with different content."""

    code = "CONFLICT"
    remedy = "Use a new id (`Idempotency-Key`, `--id`) for a new request; repeat an old one with the same content."


class NotOffered(BillerError):
    """The operator has switched this off."""

    code = "NOT_OFFERED"
    remedy = "Switch on the setting that the sentence names, if subscribers shall have it."


class DayLimitReached(BillerError):
    """The subscriber has transferred, or the seller has sold, as much as they may on one day."""

    code = "DAY_LIMIT"
    remedy = "Wait for the next day, or raise the limit."


class WrongCode(BillerError):
    """The code that was sent by message is wrong, was for another request, or came too late."""

    code = "WRONG_CODE"
    remedy = "Send the code of the last message. After a few wrong ones, or some minutes, ask for another."


class SecondFactorNeeded(BillerError):
    """The password is right, and the login needs a second factor, too."""

    code = "SECOND_FACTOR_NEEDED"
    remedy = "Send the code that your authenticator shows, or a recovery code, as `code`."


class WrongSecondFactor(BillerError):
    """The code of the second factor is wrong, or was used before."""

    code = "WRONG_SECOND_FACTOR"
    remedy = (
        "Wait for the next code of the authenticator. Who has lost it uses a recovery code, or has it reset "
        "(`celcombiller user reset-second-factor`)."
    )


class PasswordNeeded(BillerError):
    """A session whose person gave their password a while ago asks for what needs it again."""

    code = "PASSWORD_NEEDED"
    remedy = "Send your password (`POST /api/v1/me/password-check`), then send this again."


class UnknownSeller(BillerError):
    """The subscriber is no seller."""

    code = "UNKNOWN_SELLER"
    remedy = "Make them a seller first (`celcombiller seller add`); `celcombiller seller list` has all."


class SellerDisabled(BillerError):
    """The seller may not sell, refill or undo now."""

    code = "SELLER_DISABLED"
    remedy = "Enable the seller (`celcombiller seller change --state enabled`), and the subscriber."


class SaleTooLarge(BillerError):
    """One sale of this seller may not be so large."""

    code = "SALE_TOO_LARGE"
    remedy = "Sell less at once, or raise the seller's limit (`celcombiller seller change --sale-max`)."


class UndoTooLate(BillerError):
    """The time in which a seller may undo a sale is over."""

    code = "UNDO_TOO_LATE"
    remedy = "The operator can undo it (`celcombiller seller undo`), or set a longer `sellers.undo_minutes`."


class WrongPin(BillerError):
    """The PIN is wrong, or the subscriber has none."""

    code = "WRONG_PIN"
    remedy = (
        "Send the right PIN. Who has none, or has forgotten it, gets one from the operator (`celcombiller pin set`)."
    )


class HoldNotOpen(BillerError):
    """The hold was settled, released or expired before, or was never made."""

    code = "HOLD_NOT_OPEN"
    remedy = "Nothing: what the hold was for has ended already."


class UnknownCall(BillerError):
    """No call of this server and uniqueid was ever authorized."""

    code = "UNKNOWN_CALL"
    remedy = (
        "Look at server and uniqueid; `celcombiller calls` has the last calls, `celcombiller live` those in progress."
    )


class UnknownSchedule(BillerError):
    """No schedule has this id or name, or it was deleted."""

    code = "UNKNOWN_SCHEDULE"
    remedy = "Look at the id; `celcombiller schedules list` has all."


class UnknownMembership(BillerError):
    """The subscriber is not, or no longer, in the schedule."""

    code = "UNKNOWN_MEMBERSHIP"
    remedy = "Let the subscriber join first (`celcombiller schedules join`)."


class UnknownTariff(BillerError):
    """No tariff has this id or name, or no version of it this number, or it was deleted."""

    code = "UNKNOWN_TARIFF"
    remedy = "Look at the name and the number of the version; `celcombiller tariff list` has all."


class UnknownGroup(BillerError):
    """No group of subscribers has this id or name, or it was deleted."""

    code = "UNKNOWN_GROUP"
    remedy = "Look at the name; `celcombiller group list` has all."


class UnknownTrunk(BillerError):
    """No trunk has this id or name, or it was deleted."""

    code = "UNKNOWN_TRUNK"
    remedy = "Look at the name; `celcombiller trunk list` has all."


class UnknownRoute(BillerError):
    """No route has this id or prefix, or it was deleted."""

    code = "UNKNOWN_ROUTE"
    remedy = "Look at the prefix; `celcombiller route list` has all."


class UnknownVoucher(BillerError):
    """No voucher has this code, or it is none: it is mistyped."""

    code = "UNKNOWN_VOUCHER"
    remedy = "Compare the code with the card, digit by digit. `celcombiller voucher find` looks a code up."


class VoucherNotActive(BillerError):
    """The voucher is not active yet: its batch was not handed to a seller."""

    code = "VOUCHER_NOT_ACTIVE"
    remedy = "Ask where the card was bought; the operator activates cards (`celcombiller voucher activate`)."


class VoucherRevoked(BillerError):
    """The operator has revoked the voucher."""

    code = "VOUCHER_REVOKED"
    remedy = "Ask where the card was bought: it is worth nothing any more (`celcombiller voucher find` says why)."


class VoucherExpired(BillerError):
    """The time in which the voucher could be redeemed is over."""

    code = "VOUCHER_EXPIRED"
    remedy = "Ask where the card was bought; its last day is printed on it."


class VoucherRedeemed(BillerError):
    """Another subscriber has redeemed the voucher."""

    code = "VOUCHER_REDEEMED"
    remedy = "Ask where the card was bought; `celcombiller voucher find` says who redeemed it, and when."


class BalanceTooHigh(BillerError):
    """The balance would be higher than any balance may be."""

    code = "BALANCE_TOO_HIGH"
    remedy = "Spend some of the balance first, or choose another subscriber."


class VersionConflict(BillerError):
    """A version of a tariff would take effect out of the order of their numbers, or is no longer a waiting one."""

    code = "VERSION_CONFLICT"
    remedy = (
        "Read the versions again (`celcombiller tariff versions`); withdraw the one that waits, or choose a later time."
    )


class InUse(BillerError):
    """Something else still uses it, so it cannot be deleted or changed in this way."""

    code = "IN_USE"
    remedy = "Take it out of what the sentence names first."


class StoreUnavailable(BillerError):
    """The database cannot be opened, is locked, or did not answer in time."""

    code = "UNAVAILABLE"
    remedy = "Send it again in a moment. If it stays, see whether the database runs (`celcombiller doctor`)."


class NotReady(BillerError):
    """The biller lacks something that its operator has to set first; the sender may try again later."""

    code = "NOT_READY"
    remedy = "Set what the sentence names; whoever sent it sends it again later."


class Overloaded(BillerError):
    """The biller does too much at once: send it again in a moment."""

    code = "OVERLOADED"
    remedy = "Send it again after the seconds of `Retry-After`."


class NetworkUnavailable(BillerError):
    """A radio network did not answer in time, or its answer could not be understood."""

    code = "NETWORK_UNAVAILABLE"
    remedy = "See whether the radio network runs and its settings are right (`celcombiller doctor`), then try again."


class SchemaMismatch(BillerError):
    """The database has the schema of an older or a newer version of this program."""

    code = "SCHEMA"
    remedy = "Stop the biller and run `celcombiller init` of this version; never an older program on a newer database."


class NotFound(BillerError):
    """It does not exist, or this client may not see it."""

    code = "NOT_FOUND"
    remedy = "Look at the id; the list one level above has all that you may see."


class LastAdministrator(BillerError):
    """Without this administrator no one could manage the biller."""

    code = "LAST_ADMINISTRATOR"
    remedy = "Make another administrator first (`celcombiller user add --level administrator`)."


class NotAuthenticated(BillerError):
    """The request has no credentials, or its credentials are no longer valid."""

    code = "NOT_AUTHENTICATED"
    remedy = "Log in, or send a token that is valid (`Authorization: Bearer ...`; `celcombiller token add`)."


class Forbidden(BillerError):
    """The client is authenticated but may not do this."""

    code = "FORBIDDEN"
    remedy = "Ask who has the level, or use a token with the scope, that the sentence names."


class TooManyAttempts(BillerError):
    """Too many logins failed; ``retry_seconds`` says when the next may be tried."""

    code = "TOO_MANY_ATTEMPTS"
    remedy = "Wait for the seconds of `Retry-After`, then log in with the right password."

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class TooSlow(BillerError):
    """The query would take the database too long; a narrower one would not."""

    code = "TOO_SLOW"
    remedy = "Ask for less: a shorter time (`since`, `until`), one subscriber, a smaller page."


class BrokenRequest(BillerError):
    """The request cannot be parsed: its JSON, its encoding or its query string."""

    code = "BROKEN_REQUEST"
    remedy = "Send valid JSON in UTF-8, and a query string that is percent-encoded."


class TooLarge(BillerError):
    """The request's body is larger than `rest.body_kib_max` or, of a file, `rest.upload_mib_max` allows."""

    code = "TOO_LARGE"
    remedy = "Send less at once, or raise the setting."


class WrongMediaType(BillerError):
    """The body is not JSON, or is not declared as JSON."""

    code = "WRONG_MEDIA_TYPE"
    remedy = "Send JSON with `Content-Type: application/json`."


class WrongMethod(BillerError):
    """This address does not support the method. Ledger rows, for example, are never edited or deleted."""

    code = "WRONG_METHOD"
    remedy = "Use a method that `Allow` names. A wrong ledger row is corrected by a reversal."


class NotImplementedYet(BillerError):
    """The original program had this; here it needs a setting that is not set."""

    code = "NOT_IMPLEMENTED"
    remedy = "Set what the sentence names, or use the route of `/api/v1/` that has it."


class UnknownCommand(BillerError):
    """A text message to a service code has none of the forms of its commands."""

    code = "UNKNOWN_COMMAND"
    remedy = "Write the message in one of the formats of `[text_commands]`."


class TooLate(BillerError):
    """A command by text message is too old: its sender may not want it any more."""

    code = "TOO_LATE"
    remedy = "Send it again, if it is still meant; or raise `text_commands.late_hours`."


class UntrustedSender(BillerError):
    """The sender of a command is known by their number only, which can be forged, and not by a password."""

    code = "UNTRUSTED_SENDER"
    remedy = (
        "Give the phone a password in Asterisk, and let the dialplan say who it is: `payer=`, or the context "
        "`celcombiller-authenticated-messages`."
    )
