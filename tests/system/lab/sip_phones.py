"""Telephones, played by SIPp after the scenarios in tests/system/sipp."""

import re
import socket
import subprocess
from pathlib import Path

from tests.system.lab.requirements import HERE
from tests.system.lab.waiting import end, free_ports, until

_phones: list["Phone"] = []


def stop_phones() -> None:
    """Stop the phones of a test."""
    while _phones:
        _phones.pop().stop()


class Phone:
    """One SIPp. It is told at once what it does; `finish` waits for its end and complains when it went otherwise."""

    def __init__(self, folder: Path, scenario: str, arguments: list[str], *, talk: float, **words: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = (HERE / "sipp" / f"{scenario}.xml").read_text()
        for key, value in words.items():
            text = text.replace(f"@{key.upper()}@", str(value))
        (folder / "scenario.xml").write_text(text)
        self.scenario = scenario
        self.folder = folder
        command = ["sipp", "-sf", "scenario.xml", "-m", "1", "-nostdin", "-trace_msg", "-message_file", "messages"]
        command += ["-trace_err", "-error_file", "errors", "-timeout", "90", "-timeout_error"]
        command += ["-d", str(round(talk * 1000)), "-mp", str(free_ports(4, socket.SOCK_DGRAM)), *arguments]
        with (folder / "screen").open("wb") as screen:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen
            )
        _phones.append(self)

    def finish(self, seconds: float = 100) -> None:
        """The whole scenario went as it is written."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"{self} did not come to its end\n{self.report()}") from None
        assert status == 0, f"{self} ended with {status}\n{self.report()}"

    def stop(self) -> None:
        end(self._process, seconds=2)

    @property
    def messages(self) -> str:
        file = self.folder / "messages"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def answers(self) -> list[int]:
        """The statuses that were received or sent, in order."""
        return [int(code) for code in re.findall(r"^SIP/2\.0 (\d{3})", self.messages, re.MULTILINE)]

    def until_at(self, port: int) -> "Phone":
        """It can be reached at this port."""
        until(lambda: _bound(port) or self._process.poll() is not None, f"{self} is reachable")
        assert self._process.poll() is None, self.report()
        return self

    def until_answered(self) -> None:
        """The ACK of the answer has gone over the wire: the talk is on."""
        until(lambda: re.search(r"^ACK ", self.messages, re.MULTILINE), f"{self} is talking")

    def until_rings(self) -> None:
        until(lambda: 180 in self.answers, f"{self} rings")

    def report(self) -> str:
        parts = [
            f"--- {self} {name} ---\n{(self.folder / name).read_text(errors='replace')[-6000:]}"
            for name in ("errors", "messages")
            if (self.folder / name).exists()
        ]
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"<{self.scenario} in {self.folder.name}>"


def caller(
    folder: Path,
    does: str,
    *,
    number: str,
    dials: str,
    sip_port: int,
    talk: float = 1.5,
    address: str = "127.0.0.1",
    **words: object,
) -> Phone:
    arguments = ["-i", address, "-p", str(free_ports(1, socket.SOCK_DGRAM)), "-s", dials, "-key", "caller", number]
    return Phone(folder, f"caller_{does}", [*arguments, f"127.0.0.1:{sip_port}"], talk=talk, **words)


def callee(
    folder: Path,
    does: str,
    *,
    port: int,
    talk: float = 1.5,
    ring: float = 0.2,
    forward_to: str = "",
    refer_to: str = "7000",
) -> Phone:
    phone = Phone(
        folder,
        f"callee_{does}",
        ["-i", "127.0.0.1", "-p", str(port)],
        talk=talk,
        ring_ms=round(ring * 1000),
        forward_to=forward_to,
        refer_to=refer_to,
    )
    return phone.until_at(port)


def _bound(port: int) -> bool:
    wanted = f":{port:04X}"
    return any(row.split()[1].endswith(wanted) for row in Path("/proc/net/udp").read_text().splitlines()[1:])
