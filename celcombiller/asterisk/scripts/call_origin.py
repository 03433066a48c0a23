"""How a call came to the script: from a phone, forwarded, transferred, or from within a call that is paid already.

Whoever forwards or transfers a call pays for where it goes. Asterisk names them by their channel, in variables that no
phone can set; the number that SIP names (Diversion) is the phone's own word, and is not believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from celcombiller.asterisk import channel_variables

ORIGIN = tuple(
    f"${{{name}}}"
    for name in (channel_variables.PAID, channel_variables.MOVED_BY, "FORWARDERNAME", "TRANSFERERNAME", "BLINDTRANSFER")
)
"""What is asked of a channel, in the order of `read_origin`."""

_PAID = re.compile(r"([^:]*):([^:]*):([A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True)
class CallOrigin:
    """Where a call comes from.

    ``mover`` is the channel of who forwarded or transferred it here, and ``mover_number`` their number, if that is
    known. ``is_moved``: this channel is in a paid call of its own, and was transferred here. ``is_left``: this
    channel's caller sent it here, and their paid call ends in this moment. ``within``: the uniqueid of the paid call
    that dialled this channel, which is no forward.
    """

    mover: str = ""
    mover_number: str = ""
    is_moved: bool = False
    is_left: bool = False
    within: str = ""

    def payer(self, account_code: str, caller_number: str) -> tuple[str, str]:
        """Return the account code and the caller's number by which the payer is found."""
        if not self.mover:
            return account_code, caller_number
        endpoint, _, _ = self.mover.partition("/")[2].rpartition("-")  # PJSIP/2001-0000000a, Local/2001@context-...
        return endpoint.partition("@")[0], self.mover_number


def paid_text(payer_number: str, called_number: str, uniqueid: str) -> str:
    """Return what the channels that a paid call dials inherit; empty where it could not be read again."""
    text = f"{payer_number}:{called_number}:{uniqueid}"
    return text if _PAID.fullmatch(text) and "," not in text else ""


def read_origin(uniqueid: str, paid: str, moved_by: str, forwarder: str, transferer: str, blind: str) -> CallOrigin:
    """Return the origin of the call of a channel, from the answers to `ORIGIN`."""
    found = _PAID.fullmatch(paid)
    payer, callee, paid_uniqueid = ("", "", "") if found is None else found.groups()
    if paid_uniqueid == uniqueid:
        return CallOrigin(mover=blind, mover_number=callee, is_moved=True) if blind else CallOrigin()
    if forwarder or moved_by:  # the callee of the call that dialled this channel
        return CallOrigin(mover=forwarder or moved_by, mover_number=callee)
    if transferer:  # their number and account code are this channel's
        return CallOrigin()
    if blind:  # this channel is the callee of the call that dialled it
        return CallOrigin(mover=blind, mover_number=payer, is_left=True)
    return CallOrigin(within=paid_uniqueid)
