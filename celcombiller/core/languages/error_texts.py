"""What went wrong, in the reader's language.

The messages of the biller are English sentences with names and numbers in them. A reader of English gets them as they
are. Any other gets the message where it is a `Text` or the catalogue has it, else the sentence of the error's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.languages.language import Text
from celcombiller.core.languages.language import Text as _

if TYPE_CHECKING:
    from celcombiller.core.errors import BillerError
    from celcombiller.core.languages.language import Language

FIELD_REFUSED = _("This value cannot be used here.")
ERROR_TEXTS = {
    "FAILED": _("The biller made a mistake. Its log says which."),
    "BAD_NUMBER": _("This is no number that can be used here."),
    "BALANCE_TOO_HIGH": _("The balance would become too high."),
    "BARRED": _("This number is barred."),
    "BROKEN_REQUEST": _("The form could not be read. Load the page again."),
    "CONFIG": _("A setting is wrong."),
    "CONFLICT": _("This was sent before, and said something else. Load the page again."),
    "DAY_LIMIT": _("The limit of today is reached."),
    "DISABLED": _("The subscriber is disabled."),
    "FORBIDDEN": _("You may not do this."),
    "GROUP_FULL": _("The group is full."),
    "HOLD_NOT_OPEN": _("This credit is not held any more."),
    "INVALID": _("Some fields are not right."),
    "IN_USE": _("This is still in use."),
    "LAST_ADMINISTRATOR": _("The last administrator must stay."),
    "NETWORK_UNAVAILABLE": _("The radio network does not answer."),
    "NOT_AUTHENTICATED": _("Log in first."),
    "NOT_FOUND": _("There is nothing here, or it is not yours."),
    "NOT_IMPLEMENTED": _("The biller cannot do this."),
    "NOT_OFFERED": _("This is not offered."),
    "NOT_READY": _("The biller is not ready yet. Try again in a moment."),
    "NO_CREDIT": _("There is not enough credit."),
    "NO_RATE": _("There is no price for this number."),
    "NO_TRUNK": _("No trunk takes this number."),
    "OVERLOADED": _("There is too much to do now. Try again in a moment."),
    "PASSWORD_NEEDED": _("Give your password again."),
    "SALE_TOO_LARGE": _("One sale may not be so large."),
    "SCHEMA": _("The database is of another version."),
    "SECOND_FACTOR_NEEDED": _("The code of your authenticator is needed, too."),
    "SELLER_DISABLED": _("The seller is disabled."),
    "SUSPENDED": _("The subscriber is suspended, as a fee is unpaid."),
    "TAKEN": _("Somebody else has this already."),
    "TOO_EXPENSIVE": _("This would cost too much."),
    "TOO_LARGE": _("This is too large."),
    "TOO_LATE": _("It is too late for this."),
    "TOO_MANY_ATTEMPTS": _("There were too many attempts. Wait a while."),
    "TOO_MANY_CALLS": _("There are too many calls at once."),
    "TOO_SLOW": _("This took too long."),
    "UNAVAILABLE": _("The database does not answer. Try again in a moment."),
    "UNDO_TOO_LATE": _("It is too late to undo this."),
    "UNKNOWN": _("There is no such subscriber."),
    "UNKNOWN_CALL": _("There is no such call."),
    "UNKNOWN_COMMAND": _("This command is not known."),
    "UNKNOWN_GROUP": _("There is no such group."),
    "UNKNOWN_MEMBERSHIP": _("The subscriber is no member."),
    "UNKNOWN_ROUTE": _("There is no such route."),
    "UNKNOWN_SCHEDULE": _("There is no such schedule."),
    "UNKNOWN_SELLER": _("There is no such seller."),
    "UNKNOWN_TARIFF": _("There is no such tariff."),
    "UNKNOWN_TRUNK": _("There is no such trunk."),
    "UNKNOWN_VOUCHER": _("There is no such voucher."),
    "UNTRUSTED_SENDER": _("It is not certain who sent this."),
    "VERSION_CONFLICT": _("Somebody else has changed this meanwhile. Load the page again."),
    "VOUCHER_EXPIRED": _("The voucher has expired."),
    "VOUCHER_NOT_ACTIVE": _("The voucher is not active yet."),
    "VOUCHER_REDEEMED": _("The voucher was used already."),
    "VOUCHER_REVOKED": _("The voucher was revoked."),
    "WRONG_CODE": _("The code is wrong."),
    "WRONG_MEDIA_TYPE": _("This kind of file cannot be used here."),
    "WRONG_METHOD": _("This address cannot do that."),
    "WRONG_PIN": _("The PIN is wrong."),
    "WRONG_SECOND_FACTOR": _("The code of the authenticator is wrong, or was used before."),
}
"""One sentence for each code of an error."""


def describe_error(error: BillerError, language: Language) -> str:
    """Return an error as a sentence in this language."""
    text = _describe(error, language)
    return f"{text[:1].upper()}{text[1:]}"


def describe_reason(error: BillerError, language: Language) -> str:
    """Return an error as a part of a sentence: without its point, and with a small letter before other small ones."""
    text = _describe(error, language).removesuffix(".")
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def describe_field(text: str, language: Language) -> str:
    """Return what is wrong with a field, in this language."""
    return _find(text, FIELD_REFUSED, language)


def _describe(error: BillerError, language: Language) -> str:
    said = error.args[0] if error.args else ""
    if isinstance(said, Text):
        return language.write(said)
    return _find(str(error), ERROR_TEXTS.get(error.code, ERROR_TEXTS["FAILED"]), language)


def _find(text: str, other: Text, language: Language) -> str:
    """Return an English text in this language, or the other one where the catalogue does not have it."""
    found = language.gettext(text)
    return found if found != text or language.name == "en" else language.gettext(other)
