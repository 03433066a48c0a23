"""AMI as the played Asterisk speaks it: the actions of the biller, and the events that the shipped filter lets through."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from tests.chaos.asterisk.channel import Channel, Leg

if TYPE_CHECKING:
    from tests.chaos.asterisk.pbx import Pbx

COMMANDS = (
    *("AbsoluteTimeout", "Challenge", "CoreSettings", "DBGet", "Events", "Getvar", "Hangup", "ListCommands", "Login"),
    *("Logoff", "MessageSend", "Ping", "Redirect", "Setvar", "Status"),
)
GREETING = b"Asterisk Call Manager/11.0.0\r\n"


class Manager(asyncio.Protocol):
    """One connection of AMI."""

    transport: asyncio.Transport

    def __init__(self, pbx: Pbx) -> None:
        self.pbx = pbx
        self._buffer = b""
        self._word = ""
        """The challenge that a login answers."""
        self._user = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pbx.managers.discard(self)

    def send(self, data: bytes) -> None:
        """Send events to whoever has logged in."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        *messages, self._buffer = (self._buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for message in messages:
            lines = [line.partition(":") for line in message.decode(errors="replace").split("\n")]
            fields = [(key.strip().lower(), value.strip()) for key, _, value in lines]
            self._act(dict(fields))

    def _act(self, fields: dict[str, str]) -> None:
        name = fields.get("action", "").lower()
        reply = f"ActionID: {fields['actionid']}\r\n" if "actionid" in fields else ""
        if not self._user and name not in ("login", "challenge", "logoff"):
            self._answer(reply, "Error", Message="Permission denied")
            return
        act = getattr(self, f"_{name}", None)
        if act is None:
            self._answer(reply, "Error", Message=f"Invalid/unknown command: {name}. Use Action: ListCommands")
            return
        act(fields, reply)

    def _answer(self, reply: str, response: str, **values: object) -> None:
        lines = "".join(f"{key}: {value}\r\n" for key, value in values.items())
        self.send(f"Response: {response}\r\n{reply}{lines}\r\n".encode())

    def _challenge(self, _fields: dict[str, str], reply: str) -> None:
        self._word = str(secrets.randbelow(10**9))
        self._answer(reply, "Success", Challenge=self._word)

    def _login(self, fields: dict[str, str], reply: str) -> None:
        secret = self.pbx.plan.secret
        key = hashlib.md5((self._word + secret).encode(), usedforsecurity=False).hexdigest()
        if fields.get("key") != key and fields.get("secret") != secret:
            self._answer(reply, "Error", Message="Authentication failed")
            self.transport.close()
            return
        self._user = True
        self.pbx.managers.add(self)
        self._answer(reply, "Success", Message="Authentication accepted")
        up = int(time.monotonic() - self.pbx.booted)
        self.send(
            f"Event: FullyBooted\r\nPrivilege: system,all\r\nTimestamp: {self.pbx.now()}\r\nUptime: {up}\r\n"
            f"LastReload: {up}\r\nStatus: Fully Booted\r\n\r\n".encode()
        )

    def _logoff(self, _fields: dict[str, str], reply: str) -> None:
        self._answer(reply, "Goodbye", Message="Thanks for all the fish.")
        self.transport.close()

    def _ping(self, _fields: dict[str, str], reply: str) -> None:
        self._answer(reply, "Success", Ping="Pong", Timestamp=self.pbx.now())

    def _events(self, _fields: dict[str, str], reply: str) -> None:
        self._answer(reply, "Success", Events="On")

    def _listcommands(self, _fields: dict[str, str], reply: str) -> None:
        self._answer(reply, "Success", **{name: f"{name}  (Priv: call,all)" for name in COMMANDS})

    def _coresettings(self, _fields: dict[str, str], reply: str) -> None:
        self._answer(reply, "Success", AMIversion="11.0.0", AsteriskVersion="22.0.0", SystemName=self.pbx.system_name)

    def _find(self, fields: dict[str, str], reply: str) -> Leg | None:
        leg = self.pbx.legs.get(fields.get("channel", ""))
        if leg is None:
            self._answer(reply, "Error", Message="No such channel")
        return leg

    def _getvar(self, fields: dict[str, str], reply: str) -> None:
        name, values = fields.get("variable", ""), self.pbx.variables
        if fields.get("channel"):
            leg = self._find(fields, reply)
            if leg is None:
                return
            values = leg.variables if isinstance(leg, Channel) else {}
            if name == "TIMEOUT(absolute)":
                left = 0 if leg.ends_at is None else max(0.0, leg.ends_at - self.pbx.wall())
                values = {name: f"{left:.3f}" if left else "0"}
        elif name.startswith(("STRFTIME(", "TIMEOUT(", "DB_EXISTS(")):
            values = {name: "0"}
        self._answer(reply, "Success", Variable=name, Value=values.get(name, ""))

    def _setvar(self, fields: dict[str, str], reply: str) -> None:
        name, value = fields.get("variable", ""), fields.get("value", "")
        if not fields.get("channel"):
            self.pbx.variables[name] = value
        else:
            leg = self._find(fields, reply)
            if leg is None:
                return
            if name == "TIMEOUT(absolute)":
                self._limit(leg, float(value or 0))
            elif isinstance(leg, Channel):
                leg.variables[name] = value
        self._answer(reply, "Success", Message="Variable Set")

    def _absolutetimeout(self, fields: dict[str, str], reply: str) -> None:
        leg = self._find(fields, reply)
        if leg is None:
            return
        try:
            seconds = float(fields.get("timeout", ""))
        except ValueError:
            seconds = 0.0
        if seconds <= 0:
            self._answer(reply, "Error", Message="No timeout specified")
            return
        self._limit(leg, seconds)
        self._answer(reply, "Success", Message="Timeout Set")

    def _limit(self, leg: Leg, seconds: float) -> None:
        if isinstance(leg, Channel):
            leg.set_limit(seconds, by="manager")
        else:
            caller = self.pbx.caller_of(leg)
            if caller is not None:
                caller.record.limits.append((time.monotonic(), "manager callee", seconds))
            leg.limit(seconds)

    def _hangup(self, fields: dict[str, str], reply: str) -> None:
        leg = self._find(fields, reply)
        if leg is not None:
            leg.hang_up("manager")
            self._answer(reply, "Success", Message="Channel Hungup")

    def _status(self, fields: dict[str, str], reply: str) -> None:
        legs = list(self.pbx.legs.values())
        if fields.get("channel"):
            leg = self._find(fields, reply)
            if leg is None:
                return
            legs = [leg]
        asked = [name for name in fields.get("variables", "").split(",") if name]
        self._answer(reply, "Success", EventList="start", Message="Channel status will follow")
        parts = []
        for leg in legs:
            values = leg.variables if isinstance(leg, Channel) else {}
            variables = "".join(f"Variable: {name}={values.get(name, '')}\r\n" for name in asked)
            ends = 0 if leg.ends_at is None else int(leg.ends_at)
            parts.append(
                f"Event: Status\r\nPrivilege: Call\r\n{self.pbx.snapshot(leg)}Type: PJSIP\r\n"
                f"TimeToHangup: {ends}\r\nBridgeID: {leg.bridge}\r\nApplication: Dial\r\nData: \r\n"
                f"Seconds: {int(time.monotonic() - leg.created)}\r\n{variables}{reply}\r\n"
            )
        parts.append(
            f"Event: StatusComplete\r\n{reply}EventList: Complete\r\nListItems: {len(legs)}\r\nItems: {len(legs)}\r\n\r\n"
        )
        self.send("".join(parts).encode())

    def _dbget(self, fields: dict[str, str], reply: str) -> None:
        value = self.pbx.notes.get(fields.get("key", "")) if fields.get("family") == "celcombiller" else None
        if value is None:
            self._answer(reply, "Error", Message="Database entry not found")
            return
        self._answer(reply, "Success", EventList="start", Message="Result will follow")
        self.send(
            f"Event: DBGetResponse\r\nFamily: celcombiller\r\nKey: {fields['key']}\r\nVal: {value}\r\n{reply}\r\n"
            f"Event: DBGetComplete\r\n{reply}EventList: Complete\r\nListItems: 1\r\n\r\n".encode()
        )
