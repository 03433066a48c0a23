"""A real Asterisk of the test's own: its configuration, its life, its log."""

import contextlib
import itertools
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.system.lab.requirements import ASTERISK_TREE, HERE, PROJECT
from tests.system.lab.waiting import end, free_ports, until

SECRET = "lab-secret"
# First number of each kind of caller's phone -> the context in tests/system/asterisk/config/extensions.conf.
CALLERS = {1000: "phones", 1100: "announced", 1200: "two-lines", 1300: "one-line"}
CALLERS_OF_A_KIND = 60
CALLEES = range(2001, 2011)
_number = itertools.count(1)


class Asterisk:
    """Started by `start`; every path is inside the chroot, in a folder of its own that `remove` takes away."""

    def __init__(self, *, agi_port: int, second_port: int | None = None, systemname: str = "pbx1") -> None:
        self.systemname = systemname
        self.agi_port = agi_port
        self.second_port = second_port
        self.ami_port = free_ports(1)
        self.sip_port = free_ports(2, socket.SOCK_DGRAM)
        self.trunk_port = self.sip_port + 1
        self.callee_port = free_ports(len(CALLEES), socket.SOCK_DGRAM)
        self._rtp = free_ports(100, socket.SOCK_DGRAM)
        self.home = f"/lab/{socket.gethostname()}-{id(self):x}-{next(_number)}"
        self._process: subprocess.Popen | None = None
        self._write()

    @property
    def folder(self) -> Path:
        return ASTERISK_TREE / self.home.lstrip("/")

    @property
    def log(self) -> str:
        file = self.folder / "log" / "full"
        return file.read_text(errors="replace") if file.exists() else ""

    def port_of(self, callee: str) -> int:
        """Give the UDP port on which the phone of this number answers."""
        return self.callee_port + CALLEES.index(int(callee))

    def start(self) -> None:
        command = ["chroot", str(ASTERISK_TREE), "/usr/sbin/asterisk", "-f", "-C", f"{self.home}/etc/asterisk.conf"]
        with (self.folder / "log" / "console").open("ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        until(lambda: "fully booted" in self.cli("core waitfullybooted"), "Asterisk is up", seconds=20)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process, seconds=5)

    def kill9(self) -> None:
        assert self._process is not None
        end(self._process, first=signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "run" / "asterisk.ctl").unlink()

    def remove(self) -> None:
        """End it at once: nobody waits for its good-byes any more."""
        if self._process is not None:
            end(self._process, first=signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cli(self, command: str) -> str:
        """Ask as `asterisk -rx` does; empty while there is nobody to ask."""
        asked = ["chroot", str(ASTERISK_TREE), "/usr/sbin/asterisk", "-C", f"{self.home}/etc/asterisk.conf", "-rx"]
        done = subprocess.run([*asked, command], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    def channels(self) -> int:
        for line in self.cli("core show channels count").splitlines():
            if "active channel" in line:
                return int(line.split()[0])
        return -1

    def notes(self) -> str:
        """Give the notes on calls' ends that wait for the biller in Asterisk's own database."""
        return "\n".join(line for line in self.cli("database show celcombiller").splitlines() if "|" in line)

    def _write(self) -> None:
        for name in ("etc", "log", "db", "run", "spool"):
            (self.folder / name).mkdir(parents=True)
        modules = next(ASTERISK_TREE.glob("usr/lib/*/asterisk/modules"))
        # Without the host's own name in there res_pjsip asks the DNS in every call.
        (ASTERISK_TREE / "etc/hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
        values = {
            "HOME": self.home,
            "MODULES": f"/{modules.relative_to(ASTERISK_TREE)}",
            "SYSTEMNAME": self.systemname,
            "AGI": self.agi_port,
            "SECOND": f"agi://127.0.0.1:{self.second_port}" if self.second_port else "",
            "AMI": self.ami_port,
            "SIP": self.sip_port,
            "TRUNK": self.trunk_port,
            "RTP_FIRST": self._rtp,
            "RTP_LAST": self._rtp + 99,
            "MANAGER_USER": _shipped_manager_user(),
        }
        for template in (HERE / "asterisk" / "config").glob("*.conf"):
            text = template.read_text()
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            (self.folder / "etc" / template.name).write_text(text)
        with (self.folder / "etc" / "pjsip.conf").open("a") as pjsip:
            pjsip.writelines(self._phones())
        shutil.copy(PROJECT / "etc/asterisk/extensions.conf", self.folder / "etc/celcombiller.conf")

    def _phones(self) -> list[str]:
        callers = [
            f"[{number}](phone)\ncontext={context}\n"
            for first, context in CALLERS.items()
            for number in range(first, first + CALLERS_OF_A_KIND)
        ]
        callees = [
            f"[{number}](phone)\ncontext=callees\naors={number}\n"
            f"[{number}]\ntype=aor\ncontact=sip:{number}@127.0.0.1:{self.port_of(str(number))}\n"
            for number in CALLEES
        ]
        return callers + callees


def _shipped_manager_user() -> str:
    """Give the user of the shipped manager.conf as it stands, with this lab's secret."""
    shipped = (PROJECT / "etc/asterisk/manager.conf").read_text()
    return shipped[shipped.index("[celcombiller]") :].replace("secret=change-me", f"secret={SECRET}")
