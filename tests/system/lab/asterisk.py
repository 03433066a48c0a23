"""A real Asterisk, one for all tests of a process: its configuration, its life, its log."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.system.lab.requirements import ASTERISK_TREE, HERE, PROJECT
from tests.system.lab.sip_phones import stop_phones
from tests.system.lab.waiting import end, free_ports, give_back, until

SECRET = "lab-secret"
# First number of each kind of caller's phone -> the context in tests/system/asterisk/config/extensions.conf.
CALLERS = {1000: "phones", 1100: "announced", 1200: "two-lines", 1300: "one-line"}
CALLERS_OF_A_KIND = 10
LATIN_ADDRESS = "127.0.0.67"
LATIN_PHONE = f"""[jos\u00e9](phone)
context=phones
callerid=<1000>
[latin]
type=identify
endpoint=jos\u00e9
match={LATIN_ADDRESS}
""".encode("latin-1")
"""A phone whose name is no UTF-8, known by where it calls from."""
EMPTY = '""'
RTP_PORTS = 600
CALLEES = range(2001, 2011)
PASSWORD = "phone-secret"
SELLERS = range(1400, 1410)
"""Phones with a password."""
SOFT_PHONES = range(3000, 3600)
"""The numbers of the phones that this process plays: they call and are called, in the context ``movers``."""
_number = itertools.count(1)


class Asterisk:
    """Started by `begin`; every path is inside the chroot, in a folder of its own that `remove` takes away.

    Each test has billers on ports of its own: `ask` tells the running dialplan which.
    """

    def __init__(self) -> None:
        self.agi_port = 0
        self.second_port: int | None = None
        self._ports: list[range] = []
        self.ami_port = self._own_ports(1, socket.SOCK_STREAM)
        self.sip_port = self._own_ports(2)
        self.trunk_port = self.sip_port + 1
        self.callee_port = 0
        self.soft_phone_port = self._own_ports(len(SOFT_PHONES))
        self.seller_port = self._own_ports(len(SELLERS))
        self._rtp = self._own_ports(RTP_PORTS)
        self.home = f"/lab/{socket.gethostname()}-{os.getpid()}-{next(_number)}"
        self._log_begins_at = 0
        self._process: subprocess.Popen | None = None
        self._write()

    def begin(self) -> None:
        """Be ready for the next test: running, with nothing in the log, and with billers and phones of its own.

        Asterisk repeats for 32 s what a phone did not answer (RFC 3261, timers B and F): a phone at the same port would
        get what is for one of the test before.
        """
        self._log_begins_at = self._log.stat().st_size if self._log.exists() else 0
        self.ask(free_ports(1))
        self._write_callees()
        if not self.runs():
            self.start()
        else:
            said = self.cli("module reload res_pjsip.so")
            assert "reloaded successfully" in said, said

    def ask(self, agi_port: int, second_port: int | None = None) -> None:
        """Have the dialplan ask the biller on this port, and the second where the first does not answer."""
        self.agi_port, self.second_port = agi_port, second_port
        self._write_dialplan()
        if self.runs():
            for name, value in self._billers().items():
                said = self.cli(f"dialplan set global {name} {value or EMPTY}")
                assert name in said, said

    def tidy(self) -> None:
        """Leave nothing of a test behind, neither its calls nor its phones."""
        if self.runs():
            self.hang_up_all()
            self.cli("database deltree celcombiller")
        stop_phones()

    def hang_up_all(self) -> None:
        """Hang up until no channel is left: one that comes a moment after the request is not in it.

        Asterisk is started again where it does not end one, as happens seldom after transfers.
        """

        def is_quiet() -> bool:
            self.cli("channel request hangup all")
            return self.channels() == 0

        try:
            until(is_quiet, "no channel is left", seconds=20, every=0.3)
        except AssertionError:
            self.kill9()
            self.start()

    def _own_ports(self, count: int, kind: int = socket.SOCK_DGRAM) -> int:
        first = free_ports(count, kind, for_good=True)
        self._ports.append(range(first, first + count))
        return first

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def folder(self) -> Path:
        return ASTERISK_TREE / self.home.lstrip("/")

    @property
    def log(self) -> str:
        """Return what it has logged since the test began."""
        return self._log.read_bytes()[self._log_begins_at :].decode(errors="replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "log" / "full"

    def port_of(self, callee: str) -> int:
        """Give the UDP port on which the phone of this number answers."""
        return self.callee_port + CALLEES.index(int(callee))

    def port_of_soft_phone(self, number: int) -> int:
        return self.soft_phone_port + SOFT_PHONES.index(number)

    def start(self) -> None:
        command = ["chroot", str(ASTERISK_TREE), "/usr/sbin/asterisk", "-f", "-C", f"{self.home}/etc/asterisk.conf"]
        with (self.folder / "log" / "console").open("ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        until(lambda: "fully booted" in self.cli("core waitfullybooted"), "Asterisk is up")

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
        while self._ports:
            give_back(self._ports.pop())

    def cli(self, command: str) -> str:
        """Ask as `asterisk -rx` does; empty while there is nobody who answers."""
        asked = ["chroot", str(ASTERISK_TREE), "/usr/sbin/asterisk", "-C", f"{self.home}/etc/asterisk.conf", "-rx"]
        try:
            done = subprocess.run([*asked, command], capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout

    def channels(self) -> int:
        for line in self.cli("core show channels count").splitlines():
            if "active channel" in line:
                return int(line.split()[0])
        return -1

    def notes(self) -> str:
        """Give the notes on calls' ends that wait for the biller in Asterisk's own database."""
        return "\n".join(line for line in self.cli("database show celcombiller").splitlines() if "|" in line)

    def cdrs(self, *, as_csv: bool) -> Path:
        """Return the file of its call detail records: Master.csv, or that of cdr_sqlite3_custom."""
        return self.folder / "log" / ("cdr-csv/Master.csv" if as_csv else "master.db")

    def _write(self) -> None:
        for name in ("etc", "log/cdr-csv", "db", "run", "spool"):
            (self.folder / name).mkdir(parents=True)
        modules = next(ASTERISK_TREE.glob("usr/lib/*/asterisk/modules"))
        _write_hosts(ASTERISK_TREE / "etc/hosts")
        values = {
            "HOME": self.home,
            "MODULES": f"/{modules.relative_to(ASTERISK_TREE)}",
            "AMI": self.ami_port,
            "SIP": self.sip_port,
            "TRUNK": self.trunk_port,
            "RTP_FIRST": self._rtp,
            "RTP_LAST": self._rtp + RTP_PORTS - 1,
            "MANAGER_USER": _shipped_manager_user(),
            "QUEUES": "\n".join(f"[q{number}](queue)" for number in SOFT_PHONES),
            "FOLLOWED": "\n".join(f"[f{number}]\ncontext=direct\nnumber={number},10" for number in SOFT_PHONES),
        }
        for template in (HERE / "asterisk" / "config").glob("*.conf"):
            text = template.read_text()
            for key, value in values.items():
                text = text.replace(f"@{key}@", str(value))
            (self.folder / "etc" / template.name).write_text(text)
        with (self.folder / "etc" / "pjsip.conf").open("a") as pjsip:
            pjsip.writelines(self._phones())
            pjsip.write("#include pjsip_callees.conf\n")
        with (self.folder / "etc" / "pjsip.conf").open("ab") as pjsip:
            pjsip.write(LATIN_PHONE)
        shutil.copy(PROJECT / "etc/asterisk/extensions.conf", self.folder / "etc/celcombiller.conf")

    def _billers(self) -> dict[str, str]:
        """Return the dialplan's global variables that say where billers are."""
        second = f"agi://127.0.0.1:{self.second_port}" if self.second_port else ""
        where = {"CELCOMBILLER": f"agi://127.0.0.1:{self.agi_port}", "CELCOMBILLER_SECOND": second}
        return where | {f"{name}_ALIVE": "" for name in where}

    def _write_dialplan(self) -> None:
        """Write the dialplan as the next start will read it."""
        text = (HERE / "asterisk/config/extensions.conf").read_text()
        for name, value in self._billers().items():
            text = text.replace(f"@{name}@", value)
        (self.folder / "etc/extensions.conf").write_text(text)

    def _write_callees(self) -> None:
        """Write where phones answer, on ports that none of the tests before had."""
        self.callee_port = free_ports(len(CALLEES), socket.SOCK_DGRAM)
        places = (
            f"[{number}]\ntype=aor\ncontact=sip:{number}@127.0.0.1:{self.port_of(str(number))}\n" for number in CALLEES
        )
        (self.folder / "etc" / "pjsip_callees.conf").write_text("".join(places))

    def _phones(self) -> list[str]:
        callers = [
            f"[{number}](phone)\ncontext={context}\n"
            for first, context in CALLERS.items()
            for number in range(first, first + CALLERS_OF_A_KIND)
        ]
        callees = [f"[{number}](phone)\ncontext=callees\naors={number}\n" for number in CALLEES]
        sellers = [
            f"[{number}](phone)\ncontext=phones\naccountcode={number}\nauth={number}\naors={number}\n"
            f"message_context=celcombiller-authenticated-messages\n"
            f"[{number}]\ntype=auth\nauth_type=userpass\nusername={number}\npassword={PASSWORD}\n"
            f"[{number}]\ntype=aor\ncontact=sip:{number}@127.0.0.1:{self.seller_port + place}\n"
            for place, number in enumerate(SELLERS)
        ]
        soft_phones = [
            f"[{number}](phone)\ncontext=movers\naors={number}\ncallerid=<{number}>\n"
            f"named_call_group=g{number // 4}\nnamed_pickup_group=g{number // 4}\n"
            f"[{number}]\ntype=aor\ncontact=sip:{number}@127.0.0.1:{self.port_of_soft_phone(number)}\n"
            for number in SOFT_PHONES
        ]
        return callers + callees + sellers + soft_phones


def _write_hosts(file: Path) -> None:
    """Have the host's own name in there, or res_pjsip asks the DNS in every call."""
    text = f"127.0.0.1 localhost {socket.gethostname()}\n"
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _shipped_manager_user() -> str:
    """Give the user of the shipped manager.conf as it stands, with this lab's secret."""
    shipped = (PROJECT / "etc/asterisk/manager.conf").read_text()
    return shipped[shipped.index("[celcombiller]") :].replace("secret=change-me", f"secret={SECRET}")
