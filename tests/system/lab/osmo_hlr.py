"""An OsmoHLR of the tests' own: a private folder, and a loopback address of its own, for its CTRL port is fixed."""

import random
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.system.lab.waiting import end, until

CTRL_PORT, VTY_PORT = 4259, 4258


class Hlr:
    """Started by `start`; killed and started again it knows what it knew."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="celcombiller-hlr-"))
        self.host = f"127.{random.randrange(1, 250)}.{random.randrange(1, 250)}.{random.randrange(1, 250)}"
        self._process: subprocess.Popen | None = None
        config = f"""
log stderr
 logging filter all 1
 logging level db error
line vty
 bind {self.host}
ctrl
 bind {self.host}
hlr
 gsup
  bind ip {self.host}
"""
        (self.folder / "osmo-hlr.cfg").write_text(config)

    def start(self) -> "Hlr":
        assert self._process is None or self._process.poll() is not None, "it runs already"
        command = ["osmo-hlr", "-c", self.folder / "osmo-hlr.cfg", "-l", self.folder / "hlr.db", "-s"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        until(lambda: self._listens() or self._process.poll() is not None, "OsmoHLR listens")
        assert self._process.poll() is None, self.log
        return self

    def _listens(self) -> bool:
        octets = "".join(f"{int(each):02X}" for each in reversed(self.host.split(".")))
        wanted = {f"{octets}:{port:04X}" for port in (CTRL_PORT, VTY_PORT)}
        rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
        return wanted <= {row[1] for row in rows if row[3] == "0A"}

    def kill(self) -> None:
        if self._process is not None:
            end(self._process, first=signal.SIGKILL)

    def pause(self) -> None:
        """Have it take connections (the kernel does) and say nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")
