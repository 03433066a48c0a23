"""The AMI actions by starpy's names, for a protocol that can send a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import TYPE_CHECKING, Any

from celcombiller.asterisk.ami.codec import AmiActionInvalid, AmiRefused

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

Fields = dict[str, str]
"""A message by its keys in lower case."""

Request = Mapping[str, object] | Iterable[tuple[str, object]]
"""The keys and values of an action; a sequence where a key comes more than once."""

TONE_MS = 300
"""How long the tone of `playDTMF` is."""

ORIGINATE_SECONDS = 30.0
"""How long Asterisk lets an Originate ring unless the action says otherwise."""


class AmiActions:
    """The actions; the protocol that mixes them in has ``factory`` and `send_request`."""

    factory: Any

    def send_request(self, request: Request, stop: str | None, seconds: float) -> Deferred[Any]:
        """Send an action; fires with its response, or with the list up to the event ``stop``, within ``seconds``."""
        raise NotImplementedError

    def sendDeferred(self, message: Request) -> Deferred[Fields]:
        """Send an action; fires with the response, also one that says Error."""
        return self.send_request(message, None, self.factory.action_seconds)

    def collectDeferred(self, message: Request, stopEvent: str) -> Deferred[list[Fields]]:
        """Send an action that answers with a list; fires with the response and all events to the stop event."""
        return self.send_request(message, stopEvent, self.factory.action_seconds)

    def _act(
        self, name: str, *pairs: tuple[str, object], expected: str = "Success", seconds: float | None = None
    ) -> Deferred[Fields]:
        request = [("Action", name), *((key, value) for key, value in pairs if value is not None)]
        seconds = self.factory.action_seconds if seconds is None else seconds
        return self.send_request(request, None, seconds).addCallback(_checked, expected)

    def login(self) -> Deferred[Fields]:
        """Log in with the secret in clear text."""
        pairs = (("Username", self.factory.username), ("Secret", self.factory.secret), ("Events", self.factory.events))
        return self._act("Login", *pairs)

    def loginChallengeResponse(self) -> Deferred[Fields]:
        """Log in without sending the secret; every Asterisk knows this."""
        return self._act("Challenge", ("AuthType", "MD5")).addCallback(self._respond)

    def _respond(self, challenge: Fields) -> Deferred[Fields]:
        text = challenge.get("challenge", "") + self.factory.secret
        key = md5(text.encode(), usedforsecurity=False).hexdigest()  # the one digest AMI has
        pairs = (
            ("AuthType", "MD5"),
            ("Username", self.factory.username),
            ("Key", key),
            ("Events", self.factory.events),
        )
        return self._act("Login", *pairs)

    def logoff(self) -> Deferred[Fields]:
        """Log off; Asterisk then closes the connection."""
        return self._act("Logoff", expected="Goodbye")

    def ping(self) -> Deferred[Fields]:
        """Learn whether Asterisk still answers."""
        return self._act("Ping")

    def absoluteTimeout(self, channel: str, timeout: float) -> Deferred[Fields]:
        """Hang up a channel after this many seconds from now; this replaces an earlier limit. 0 is refused."""
        return self._act("AbsoluteTimeout", ("Channel", channel), ("Timeout", timeout))

    def hangup(self, channel: str) -> Deferred[Fields]:
        """Hang up one channel."""
        if channel.startswith("/"):  # Asterisk would take it for a pattern, and hang up all that match
            raise AmiActionInvalid("a channel to hang up is named, not matched")
        return self._act("Hangup", ("Channel", channel))

    def playDTMF(self, channel: str, digit: str) -> Deferred[Fields]:
        """Send a digit to the phone of a channel, which sounds as a short tone there."""
        return self._act("PlayDTMF", ("Channel", channel), ("Digit", digit), ("Duration", TONE_MS))

    def getVar(self, channel: str | None, variable: str) -> Deferred[str | None]:
        """Read a channel's variable or function, or a global one."""
        return self._act("Getvar", ("Channel", channel), ("Variable", variable)).addCallback(_variable)

    def setVar(self, channel: str | None, variable: str, value: object) -> Deferred[Fields]:
        """Set a channel's variable or function, or a global one."""
        return self._act("Setvar", ("Channel", channel), ("Variable", variable), ("Value", value))

    def status(self, channel: str | None = None) -> Deferred[list[Fields]]:
        """List what is alive: the response, a Status event for each channel, and StatusComplete."""
        request = [("Action", "Status"), *([("Channel", channel)] if channel else [])]
        return self.collectDeferred(request, "StatusComplete")

    def redirect(
        self, channel: str, context: str, exten: str, priority: object, extraChannel: str | None = None
    ) -> Deferred[Fields]:
        """Send a channel to another place in the dialplan."""
        return self._act(
            "Redirect",
            ("Channel", channel),
            ("Context", context),
            ("Exten", exten),
            ("Priority", priority),
            ("ExtraChannel", extraChannel),
        )

    def originate(
        self,
        channel: str,
        context: str | None = None,
        exten: str | None = None,
        priority: object = None,
        timeout: float | None = None,
        callerid: str | None = None,
        account: str | None = None,
        application: str | None = None,
        data: str | None = None,
        variable: Mapping[str, object] | None = None,
        nowait: bool = False,  # noqa: FBT001, FBT002 - starpy's place and name
        channelid: str | None = None,
        otherchannelid: str | None = None,
        codecs: str | None = None,
    ) -> Deferred[Fields]:
        """Call a channel and connect it; without ``nowait`` the answer comes when it has been answered or given up."""
        ring_seconds = ORIGINATE_SECONDS if timeout is None else timeout
        return self._act(
            "Originate",
            ("Channel", channel),
            ("Context", context),
            ("Exten", exten),
            ("Priority", priority),
            ("Timeout", None if timeout is None else int(timeout * 1000)),
            ("CallerID", callerid),
            ("Account", account),
            ("Application", application),
            ("Data", data),
            ("Async", "true" if nowait else "false"),
            ("ChannelId", channelid),
            ("OtherChannelId", otherchannelid),
            ("Codecs", codecs),
            *(("Variable", f"{name}={value}") for name, value in (variable or {}).items()),
            seconds=self.factory.action_seconds + (0 if nowait else ring_seconds),
        )


def _checked(fields: Fields, expected: str) -> Fields:
    if fields.get("response") != expected:
        raise AmiRefused(fields.get("message", ""))
    return fields


def _variable(fields: Fields) -> str | None:
    value = fields.get("value")
    return None if value == "(null)" else value
