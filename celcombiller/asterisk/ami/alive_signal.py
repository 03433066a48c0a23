"""The sign of life that a biller leaves in Asterisk, where the dialplan has a second biller to ask.

AGI has no time-out: a biller that stands still keeps the calls that ask it. So a biller writes Asterisk's own time into
a global variable every few seconds, and the dialplan fragment goes to the second biller when that time is old.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.codec import AmiRefused

SIGNAL_SECONDS = 2.0
"""How often the time is written; the fragment takes one that is more than 5 s old for a biller that stands still."""

_AGI_URL = re.compile(r"agi://\[?([^\]/]+?)\]?(?::(\d{1,5}))?(?:/.*)?")


class AliveSignal:
    """Signs for those of the fragment's billers that are this process: it listens on ``agi_port``."""

    def __init__(self, agi_port: int | None) -> None:
        self._agi_port = agi_port
        self.names: list[str] = []
        """The global variables to write; none without a second biller."""

    async def look(self, ami: Any) -> None:
        """Read which billers the dialplan knows, and which of them this one is."""
        self.names = []
        if self._agi_port is None:
            return
        try:
            second = await ami.getVar(None, channel_variables.SECOND_BILLER)
            first = await ami.getVar(None, channel_variables.FIRST_BILLER) if second else ""
        except AmiRefused:  # the lacking right is reported at the login
            return
        if not second:
            return
        for name, url in ((channel_variables.FIRST_BILLER, first), (channel_variables.SECOND_BILLER, second)):
            if self._is_this(url or "", ami.transport):
                self.names.append(f"{name}_ALIVE")

    def _is_this(self, url: str, transport: Any) -> bool:
        found = _AGI_URL.fullmatch(url)
        if found is None or int(found[2] or 4573) != self._agi_port:
            return False
        here, there = (getattr(end, "host", "") for end in (transport.getHost(), transport.getPeer()))
        return found[1] == here or (_is_loopback(found[1]) and _is_loopback(there))

    async def send(self, ami: Any) -> None:
        """Write Asterisk's own time, so that no two clocks are compared."""
        if self.names:
            seconds = (await ami.sendDeferred({"Action": "Ping"})).get("timestamp", "").partition(".")[0]
            if seconds.isascii() and seconds.isdigit():
                for name in self.names:
                    await ami.setVar(None, name, seconds)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
