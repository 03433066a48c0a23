"""Every channel variable the biller reads or sets, and how Asterisk writes what they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

RESULT = "CELCOMBILLER_RESULT"
"""``GRANTED`` or the code of a refusal; empty when the biller did not answer."""

SECONDS = "CELCOMBILLER_SECONDS"
"""Granted seconds of talk."""

LIMIT = "TIMEOUT(absolute)"
"""In so many seconds Asterisk hangs this channel up; ``0`` is never, and empty where func_timeout is not loaded."""

LET_GO = "CELCOMBILLER_LET_GO"
"""Of a call that the ledger did not authorize in time: the id of the request and the number that was dialled."""

DIALLED_CHANNEL = "DIALEDPEERNAME"
"""The channel of the callee, which Dial sets at the answer."""

NUMBER = "CELCOMBILLER_NUMBER"
"""The number to call, where the dialplan sets it; else the argument ``number=``, else the extension."""

PAID = "CELCOMBILLER_PAID"
"""Of a paid call, on its channel and on all that it dials: the payer's number, the called number, and its uniqueid."""

MOVED_BY = "CELCOMBILLER_MOVED_BY"
"""The channel of who transferred the call that dials this one; they pay for it."""

KEPT = "VOLUME(TX)"
"""Setting it, to no change, puts a hook on the channel's audio, and Asterisk optimizes away no channel that has one."""

ANSWERED = "CELCOMBILLER_ANSWERED"
"""When the callee answered, set by the dialplan fragment's subroutine."""

CDR_ANSWER = "CDR(answer,u)"
"""When the caller's channel was answered: where the dialplan does not answer it, that is when the callee did."""

ENDED = "CELCOMBILLER_ENDED"
"""When the channel ended, set by the dialplan fragment's hangup handler: a biller that stood still asks later."""

SETTLED = "CELCOMBILLER_SETTLED"
"""``1`` when the charge is durable; else the dialplan notes the call's end in Asterisk's database."""

SESSION = "CELCOMBILLER_SESSION"
"""A random word, by which AMI finds the server of a channel where several servers look the same."""

VOICE_BALANCE = "CELCOMBILLER_VOICE_BALANCE"
DATA_BALANCE = "CELCOMBILLER_DATA_BALANCE"
SMS_BALANCE = "CELCOMBILLER_SMS_BALANCE"
"""Credits available to the caller, set by the ``balance`` script."""

BALANCE = "CELCOMBILLER_BALANCE"
"""The balance that the script says aloud, in credits; empty when it found no subscriber or could not ask."""

FIRST_BILLER = "CELCOMBILLER"
SECOND_BILLER = "CELCOMBILLER_SECOND"
"""Global variables of the dialplan: where the two billers are. With ``_ALIVE`` added: when each last gave a sign."""

NOW = "${STRFTIME(,,%s.%6q)}"
"""Asterisk's clock, in the form of `instant`."""

NOTE_FAMILY = "celcombiller"
"""Where in Asterisk's database the dialplan notes ends of calls that no biller recorded."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX = 253402300799  # the last second of the year 9999
_DIGITS_MAX = len(str(_SECONDS_MAX))  # Python refuses to read numbers of thousands of digits


def instant(text: str | None) -> datetime | None:
    """Read seconds since 1970 with up to six decimals; ``None`` when it is not that."""
    if not text:
        return None
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and len(whole) <= _DIGITS_MAX) or int(whole) > _SECONDS_MAX:
        return None
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        return None
    return _EPOCH + timedelta(seconds=int(whole), microseconds=int(fraction[:6].ljust(6, "0")))


def milliseconds(text: str | None) -> int | None:
    """Read ANSWEREDTIME_MS; ``None`` when Asterisk left it empty. More than eleven days is not believed."""
    if text and text.isascii() and text.isdigit() and len(text) <= 9:  # noqa: PLR2004
        return int(text)
    return None
