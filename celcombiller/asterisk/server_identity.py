"""Which Asterisk server an AGI session comes from, so that calls of two servers never meet.

A uniqueid is unique on one server only, and where two have the same systemname, or none, both may give the same one. So
the session is matched by its uniqueid's prefix (systemname) and by its peer address. Where these leave a doubt, a
random word is set on the channel: only the server that has this channel can read it back over AMI.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.commands import set_variable
from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.config.tables import Asterisk

_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")


class ServerNotIdentified(BillerError):
    """Two servers look the same, and neither can be asked now: their calls could be taken for each other."""


class ServerIdentity:
    """Names the server of a session, by the settings and by what the AMI links know."""

    def __init__(self, servers: Sequence[Asterisk], links: Mapping[str, AmiLink]) -> None:
        self._servers = servers
        self._links = links

    async def identify(self, agi: Any) -> str:
        """Return the server's name in the settings; of one that is not there, its systemname or its address.

        Raises `ServerNotIdentified`.
        """
        prefix = str(agi.variables["agi_uniqueid"].rpartition("-")[0])
        host = getattr(agi, "host", None)
        if host is None:  # starpy's
            host = str(getattr(agi.transport.getPeer(), "host", ""))
        stranger = _NO_NAME.sub("_", prefix or host or "asterisk")
        name, suspects = self._match(prefix, host, stranger)
        if name is not None and not suspects:
            return name
        found, unasked = await self._ask(agi, suspects)
        if found is not None:
            return found
        if not unasked:
            return stranger
        if len(unasked) == 1 < len(suspects):
            return unasked[0]
        if name is None:
            raise ServerNotIdentified(
                f"{' and '.join(suspects)} have the same address and no systemname that differs, and AMI does not "
                "answer: set another systemname in each asterisk.conf"
            )
        return name

    def _match(self, prefix: str, host: str, stranger: str) -> tuple[str | None, list[str]]:
        """Return the server, and which are to be asked first; it counts when they do not answer."""
        by_host = [each.name for each in self._servers if self._may_be(each, prefix) and host in self._hosts(each)]
        by_name = [each.name for each in self._servers if prefix and prefix == self._system_name(each)]
        both = [name for name in by_host if name in by_name]
        if len(both) == 1:
            unknown = [name for name in by_host if name not in both and self._said_name(name) is None]
            return both[0], [*both, *unknown] if unknown else []
        if both:
            return None, both
        if by_host and by_name:  # the name says one, the connection another
            return (by_host[0] if len(by_host) == 1 else None), list(dict.fromkeys((*by_host, *by_name)))
        if by_host or by_name:
            found = by_host or by_name
            return (found[0], []) if len(found) == 1 else (None, found)
        possible = [each.name for each in self._servers if self._may_be(each, prefix)]
        return (possible[0] if len(self._servers) == 1 and possible else stranger), possible

    def _said_name(self, name: str) -> str | None:
        """Return the systemname as Asterisk said it, if it did."""
        link = self._links.get(name)
        return None if link is None else link.system_name

    def _system_name(self, server: Asterisk) -> str:
        """Return the systemname, which the settings' name is where Asterisk did not say."""
        said = self._said_name(server.name)
        return server.name if said is None else said

    def _may_be(self, server: Asterisk, prefix: str) -> bool:
        """Return whether nothing that Asterisk said contradicts this prefix."""
        return self._said_name(server.name) in (None, prefix)

    def _hosts(self, server: Asterisk) -> set[str]:
        link = self._links.get(server.name)
        return {server.host, *(() if link is None or not link.address else (link.address,))}

    async def _ask(self, agi: Any, names: Sequence[str]) -> tuple[str | None, list[str]]:
        """Return the server that has this channel, and those that could not be asked."""
        word, channel = secrets.token_hex(8), agi.variables.get("agi_channel", "")
        await set_variable(agi, channel_variables.SESSION, word)
        unasked = []
        for name in names:
            link = self._links.get(name)
            ami = None if link is None else link.ami
            try:
                if ami is None:
                    unasked.append(name)
                elif await ami.getVar(channel, channel_variables.SESSION) == word:
                    return name, []
            except AmiRefused as refused:
                if "no such channel" not in str(refused).lower():
                    unasked.append(name)
            except (AmiProtocolError, ConnectionClosed):
                unasked.append(name)
        return None, unasked
