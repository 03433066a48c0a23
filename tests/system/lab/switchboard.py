"""An operator's switchboard: an AMI connection that moves calls, as the tests tell it."""

import socket
import threading
from itertools import count

from tests.system.lab.asterisk import SECRET
from tests.system.lab.waiting import until

_number = count(1)


class Switchboard:
    """One connection; each action waits for its answer. Several threads may share it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.connect()

    def connect(self) -> None:
        """Connect and log in, also once more: an Asterisk that was started again does not know the connection."""
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self._stream = self._socket.makefile("rwb")
        self._stream.readline()
        self.act("Login", Username="switchboard", Secret=SECRET, Events="off")

    def act(self, action: str, *, may_fail: bool = False, **fields: object) -> dict[str, str]:
        """Ask for an action; return the answer."""
        with self._lock:
            (answer, *_) = self._ask(action, fields, None)
        assert may_fail or answer["Response"] == "Success", (action, fields, answer)
        return answer

    def channels(self) -> list[dict[str, str]]:
        """Return what Status says of each channel."""
        with self._lock:
            return [each for each in self._ask("Status", {}, "StatusComplete") if each.get("Event") == "Status"]

    def channel_of(self, number: object, place: int = 0) -> str:
        """Return the channel of a phone, once it has one; the first that began, or another."""

        def names() -> list[str]:
            ours = [each for each in self.channels() if each["Channel"].startswith(f"PJSIP/{number}-")]
            return [each["Channel"] for each in sorted(ours, key=lambda each: each["Channel"])][place:]

        return until(names, f"{number} has a channel", seconds=10)[0]

    def close(self) -> None:
        self._socket.close()

    def _ask(self, action: str, fields: dict[str, object], stop: str | None) -> list[dict[str, str]]:
        mark = str(next(_number))
        lines = [f"Action: {action}", f"ActionID: {mark}", *(f"{key}: {value}" for key, value in fields.items())]
        self._stream.write("\r\n".join((*lines, "", "")).encode())
        self._stream.flush()
        said: list[dict[str, str]] = []
        while True:
            message = self._read()
            if message.get("ActionID") == mark:
                said.append(message)
                if stop is None or message.get("Event") == stop:
                    return said

    def _read(self) -> dict[str, str]:
        """Return the next message. Raises `ConnectionError` at the end of the connection."""
        lines = []
        while (line := self._stream.readline()).strip():
            lines.append(line.decode(errors="replace").strip())
        if not line:
            raise ConnectionError("Asterisk ended the connection of the switchboard")
        return dict(line.partition(": ")[::2] for line in lines)
