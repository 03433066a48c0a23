"""The played Asterisk as a process of its own, which this one orders about and reads."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import msgspec

from tests.chaos.asterisk.plan import CallRecord, Plan
from tests.system.lab.requirements import PROJECT
from tests.system.lab.waiting import until


class PlayedAsterisk:
    """Started by the constructor; `records` grows by one for each call that is over."""

    can_step = True

    def __init__(self, plan: Plan) -> None:
        self.records: list[CallRecord] = []
        self._said: set[str] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.asterisk.pbx"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._write(plan)
        until(lambda: "up" in self._said, "the played Asterisk is up")

    def _read(self) -> None:
        for line in self._process.stdout:
            value: Any = msgspec.json.decode(line)
            if isinstance(value, str):
                self._said.add(value)
            else:
                self.records.append(msgspec.convert(value, CallRecord))

    def _write(self, value: object) -> None:
        self._process.stdin.write(msgspec.json.encode(value) + b"\n")
        self._process.stdin.flush()

    def restart(self) -> None:
        """Restart it as ``core restart now``."""
        self._write({"do": "restart"})

    def kill(self, seconds: float) -> None:
        """Kill it as ``kill -9``, and have it again after so long."""
        self._write({"do": "kill", "seconds": seconds})

    def step(self, seconds: float) -> None:
        """Set its clock."""
        self._write({"do": "step", "seconds": seconds})

    def begin(self) -> None:
        """Do nothing: its calls began with it."""

    def stop_calls(self) -> None:
        """Begin no call any more."""
        self._write({"do": "stop"})

    @property
    def is_over(self) -> bool:
        """Whether all calls of the plan are over."""
        assert self._process.poll() is None, "the played Asterisk has ended"
        return "over" in self._said

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
