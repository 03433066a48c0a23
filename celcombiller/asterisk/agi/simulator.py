"""Asterisk's side of one FastAGI session: for ``celcombiller call``, and for tests that need no Asterisk.

A `Channel` answers the commands the biller's scripts use, byte for byte as Asterisk 22 does (measured); its Dial ends
as it is told to, and respects the limit. Talk takes no time.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.protocols.basic import LineOnlyReceiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

USAGE = "520-Invalid command syntax.  Proper usage follows:\nSee the command's description.\n520 End of proper usage."

SESSION_SECONDS = 60
"""How long one script may take here, where talk takes no time."""

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"?|((?:[^\s"\\]|\\.)+)')
_CAUSES = {"ANSWER": "16", "BUSY": "17", "NOANSWER": "0", "CANCEL": "127", "CHANUNAVAIL": "3", "CONGESTION": "34"}


@dataclass(slots=True)
class Channel:
    """A caller's channel: its caller, the number called, how the Dial will end, and what was set and dialled."""

    caller_number: str
    called_number: str
    account_code: str = ""
    outcome: str = "ANSWER"
    talk_ms: int = 0
    uniqueid: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    dialled: str = ""
    transcript: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.uniqueid = self.uniqueid or f"{time.time():.6f}"
        self.variables |= {
            "CHANNEL(state)": "Ring",
            "CHANNEL(accountcode)": self.account_code,
            "TIMEOUT(absolute)": "0",
        }

    @property
    def name(self) -> str:
        """The channel's name."""
        return f"Simulated/{self.caller_number}-{self.uniqueid}"

    def environment(self, script: str, host: str, *, extension: str | None = None) -> bytes:
        """Return the lines Asterisk sends first, in its order."""
        lines = {
            "network": "yes",
            "network_script": script,
            "request": f"agi://{host}/{script}",
            "channel": self.name,
            "language": "en",
            "type": "Simulated",
            "uniqueid": self.uniqueid,
            "version": "22.0.0",
            "callerid": self.caller_number or "unknown",
            "calleridname": "unknown",
            "callingpres": "0",
            "callingani2": "0",
            "callington": "0",
            "callingtns": "0",
            "dnid": self.called_number,
            "rdnis": "unknown",
            "context": "simulated",
            "extension": extension or self.called_number,
            "priority": "1",
            "enhanced": "0.0",
            "accountcode": self.account_code,
            "threadid": "140000000000000",
        }
        return "".join(f"agi_{name}: {value}\n" for name, value in lines.items()).encode() + b"\n"

    def answer(self, line: str) -> str:  # noqa: C901, PLR0911  a table, one row a command
        """Answer one command line."""
        words = [re.sub(r"\\(.)", r"\1", first or second) for first, second in _WORD.findall(line)]
        match [word.upper() for word in words[:3]]:
            case ["GET", "FULL", "VARIABLE"] if len(words) > 3:  # noqa: PLR2004
                return f"200 result=1 ({self._expand(words[3])})"
            case ["GET", "VARIABLE", _]:
                value = self.variables.get(words[2])
                return "200 result=0" if value is None else f"200 result=1 ({value})"
            case ["SET", "VARIABLE", _]:
                if len(words) != 4:  # noqa: PLR2004
                    return USAGE
                self.variables[words[2]] = words[3]
                return "200 result=1"
            case ["SET", "AUTOHANGUP", _]:
                self.variables["TIMEOUT(absolute)"] = words[2]
                return "200 result=0"
            case ["NOOP", *_] | ["VERBOSE", *_] | ["ANSWER"] | ["SAY", _, _]:
                return "200 result=0"
            case ["CHANNEL", "STATUS", *_]:
                return "200 result=4"
            case ["STREAM", "FILE", _]:
                return "200 result=0 endpos=8000"
            case ["EXEC", "DIAL", *_]:
                return self._dial(words[2] if len(words) > 2 else "")  # noqa: PLR2004
            case ["EXEC", "MSET", _]:
                self.variables |= dict(re.findall(r"([^=,]+)=([^,]*)", words[2]))
                return "200 result=0"
            case ["EXEC", _, *_]:
                return "200 result=0"
        return "510 Invalid or unknown command"

    def _expand(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1].startswith("STRFTIME("):
                return f"{time.time():.6f}"
            return self.variables.get(match[1], "")

        return re.sub(r"\$\{([^}]*)\}", value, text)

    def _dial(self, argument: str) -> str:
        """End as told; a limit in the options cuts the talk, and an impossible one fails the Dial."""
        self.dialled = argument
        limits = [
            int(amount) * (1 if name == "L" else 1000)
            for name, amount in re.findall(r"([LS])\(([0-9]+)", argument.partition(",")[2])
        ]
        if 0 in limits:
            self.variables["DIALSTATUS"] = "INVALIDARGS"
            return "200 result=-1"
        talk_ms = min([self.talk_ms, *limits])
        answered = self.outcome == "ANSWER"
        self.variables |= {
            "DIALSTATUS": self.outcome,
            "HANGUPCAUSE": _CAUSES[self.outcome],
            "ANSWEREDTIME": str(talk_ms // 1000) if answered else "",
            "ANSWEREDTIME_MS": str(talk_ms) if answered else "",
            "DIALEDTIME_MS": str(talk_ms + 6) if answered else "",
        }
        return "200 result=0" if self.outcome in ("BUSY", "NOANSWER", "CHANUNAVAIL", "CONGESTION") else "200 result=-1"


class AgiPeer(LineOnlyReceiver):
    """Plays one script of a channel against a FastAGI server; ``over`` fires when the server closes."""

    delimiter = b"\n"

    def __init__(self, channel: Channel, environment: bytes) -> None:
        self._channel = channel
        self._environment = environment
        self.over: Deferred[Channel] = Deferred()

    def connectionMade(self) -> None:
        """Send the environment."""
        self._write(self._environment)

    def lineReceived(self, line: bytes) -> None:
        """Answer a command."""
        command = line.decode()
        answer = self._channel.answer(command)
        self._channel.transcript += [("biller", command), ("asterisk", answer)]
        self._write(answer.encode() + b"\n")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: ARG002  Twisted's has a default
        """Fire the Deferred of the end of the script."""
        if not self.over.called:
            self.over.callback(self._channel)

    def give_up(self, _result: object, seconds: float) -> None:
        """End a session in which the biller says nothing."""
        transport: Any = self.transport
        transport.abortConnection()
        raise TimeoutError(f"no answer in {seconds:.0f} s")

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)


async def play(
    reactor: IReactorTime, host: str, port: int, channel: Channel, scripts: Sequence[str] = ("caller", "reducer")
) -> Channel:
    """Play a whole call as the two lines of the dialplan do: ``caller``, then ``reducer`` in ``h``.

    Raises what the connection raises, `ConnectionRefusedError` first of all, and `TimeoutError` for a silent biller.
    """
    for script in scripts:
        extension = "h" if script == "reducer" else None
        peer = AgiPeer(channel, channel.environment(script, host, extension=extension))
        await connectProtocol(HostnameEndpoint(reactor, host, port), peer)
        await peer.over.addTimeout(SESSION_SECONDS, reactor, onTimeoutCancel=peer.give_up)
    return channel
