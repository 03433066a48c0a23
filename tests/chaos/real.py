"""Calls on the real Asterisk, placed over AMI between Local channels, and what its own events say of each.

What the script knows comes by a connection of its own, which no fault touches.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import msgspec

from tests.chaos.asterisk.plan import CallPlan, CallRecord, Plan, draw_calls
from tests.system.lab.asterisk import SECRET, Asterisk

CONNECT_SECONDS = 0.05
SILENT_SECONDS = 5.0
"""A connection on which nothing comes for so long, not even the answer to a Ping, is made anew. One that Asterisk accepts
in the moment of ``core restart now`` stays open in the program that follows, which knows nothing of it."""
LATE_SECONDS = 0.5
"""Calls that are late by more are put off, with all that follow."""
GONE_SECONDS = 30.0
"""A call of which nothing more comes is over: its Asterisk died before anything was heard of it."""
NOTE_SECONDS = 1.5
"""Asterisk writes its own database once a second (``db_sync_thread`` of astdb.c), so a killed one loses newer notes."""
CONTEXTS = {"fragment": "phones", "two-lines": "two-lines"}


class RealAsterisk:
    """Started by the constructor; `begin` starts its calls."""

    can_step = False

    def __init__(self, pbx: Asterisk, plan: Plan) -> None:
        self.pbx = pbx
        self._plan = plan
        self._lock = threading.Lock()
        self._calls: dict[str, CallRecord] = {}
        self._callees: dict[str, str] = {}
        self._socket: socket.socket | None = None
        self._one_at_a_time = threading.Lock()
        self._monotonic_less_wall = time.monotonic() - time.time()
        self._is_ended = self._has_made_all = False
        self._epoch = int(time.time())
        self.records: list[CallRecord] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def begin(self) -> None:
        """Begin its calls."""
        threading.Thread(target=self._make_calls, daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether all calls of the plan are over."""
        with self._lock:
            for record in list(self._calls.values()):
                if self._has_made_all and time.monotonic() > record.began + GONE_SECONDS + self._plan.talk_seconds[1]:
                    self._end(record, time.monotonic(), "never heard of")
            return self._has_made_all and not self._calls

    # -- calls -------------------------------------------------------------------------------------------------------

    def _make_calls(self) -> None:
        """Make all calls of the plan. While Asterisk is down, which takes long on a busy machine, none is due."""
        began = time.monotonic()
        for call in draw_calls(self._plan):
            time.sleep(max(0.0, began + call.at_seconds - time.monotonic()))
            while not self._originate(call):
                if self._is_ended:
                    return
                time.sleep(CONNECT_SECONDS)
            began = max(began, time.monotonic() - call.at_seconds - LATE_SECONDS)
        self._has_made_all = True

    def _originate(self, call: CallPlan) -> bool:
        """Order a call; return whether there was an Asterisk to take the order."""
        first = f"pbx1-{self._epoch}.{call.number}"
        uniqueid = f"{first};2"  # the side of the Local channel that runs the dialplan
        by_caller = call.ended_by == "caller"
        more = 60  # whoever does not end the call waits
        fields = {
            "Action": "Originate",
            "Channel": f"Local/{call.callee}@{CONTEXTS[call.dialplan]}/n",
            "Application": "Wait",
            "Data": f"{call.talk_seconds if by_caller else more:.3f}",
            "CallerID": f"{call.caller} <{call.caller}>",
            "Timeout": "30000",
            "Async": "true",
            "ChannelId": first,
        }
        variables = {
            "__CHAOS_RING": f"{call.ring_seconds:.3f}",
            "__CHAOS_TALK": f"{more if by_caller else call.talk_seconds:.3f}",
            "__CHAOS_OUTCOME": call.outcome,
        }
        lines = [f"{key}: {value}" for key, value in fields.items()]
        lines += [f"Variable: {name}={value}" for name, value in variables.items()]
        record = CallRecord(uniqueid=uniqueid, plan=msgspec.to_builtins(call), began=time.monotonic())
        with self._lock:
            self._calls[uniqueid] = record
        if self._send(lines):
            return True
        with self._lock:
            self._calls.pop(uniqueid, None)
        return False

    def _send(self, lines: list[str]) -> bool:
        connection = self._socket
        if connection is None:
            return False
        try:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        except OSError:
            return False
        return True

    # -- what it says ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._is_ended:
            try:
                connection = socket.create_connection(("127.0.0.1", self.pbx.ami_port), timeout=5)
            except OSError:
                time.sleep(CONNECT_SECONDS)
                continue
            connection.settimeout(SILENT_SECONDS)
            try:
                connection.sendall(f"Action: Login\r\nUsername: chaos\r\nSecret: {SECRET}\r\n\r\n".encode())
                self._read(connection)
            except OSError:
                pass
            finally:
                self._socket = None
                connection.close()

    def _read(self, connection: socket.socket) -> None:
        buffer = b""
        while data := self._receive(connection):
            *messages, buffer = (buffer + data).split(b"\r\n\r\n")
            for message in messages:
                fields = dict(line.partition(": ")[::2] for line in message.decode(errors="replace").split("\r\n"))
                if fields.get("Event") == "FullyBooted":
                    self._socket = connection
                with self._lock:
                    self._hear(fields)

    def _receive(self, connection: socket.socket) -> bytes:
        """Return what comes next; nothing at its end. Raises `TimeoutError` where Asterisk does not answer."""
        try:
            return connection.recv(65536)
        except TimeoutError:
            if self._socket is not connection:  # not logged in yet
                raise
            connection.sendall(b"Action: Ping\r\n\r\n")
            return connection.recv(65536)

    def _hear(self, fields: dict[str, str]) -> None:
        event, uniqueid = fields.get("Event"), fields.get("Uniqueid", "")
        at = float(fields.get("Timestamp", 0)) + self._monotonic_less_wall
        record = self._calls.get(uniqueid)
        if event == "DialEnd" and record is not None and fields.get("DialStatus") == "ANSWER":
            if record.answered is None:
                record.answered = at
                self._callees[fields.get("DestUniqueid", "")] = uniqueid
        elif event == "Hangup" and uniqueid in self._callees:
            answered = self._calls.get(self._callees.pop(uniqueid))
            if answered is not None and answered.ended is None:
                answered.ended = at
        elif event == "Hangup" and record is not None:
            self._end(record, at, f"cause {fields.get('Cause')}")

    def _end(self, record: CallRecord, at: float, how: str) -> None:
        if record.answered is not None and record.ended is None:
            record.ended = at
        record.gone, record.how = at, how
        # The dialplan goes on until a biller has it, or notes it down.
        record.settled = how != "crash" and record.plan["dialplan"] == "fragment"
        self._calls.pop(record.uniqueid, None)
        self.records.append(record)

    # -- faults ------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Restart it as ``core restart now``."""
        with self._one_at_a_time:
            self.pbx.cli("core restart now")

    def kill(self, seconds: float) -> None:
        """Kill it as ``kill -9``, and start it again after so long."""
        with self._one_at_a_time:
            at = time.monotonic()
            self.pbx.kill9()
            with self._lock:
                for record in list(self._calls.values()):
                    self._end(record, at, "crash")
                for record in self.records:
                    if record.gone is not None and at - record.gone < NOTE_SECONDS:
                        record.settled = False  # if no biller took its end, its note is lost
            time.sleep(seconds)
            self.pbx.start()

    def end(self) -> None:
        """End the connection; who lent the Asterisk has it back."""
        self._is_ended = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
