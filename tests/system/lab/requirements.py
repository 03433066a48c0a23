"""Which of the real parts stand on this machine. tests/system/prepare.sh brings them."""

import os
import shutil
import subprocess
from pathlib import Path

from celcombiller.bench.postgresql import find_programs

PROJECT = Path(__file__).resolve().parents[3]
HERE = PROJECT / "tests" / "system"
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
"""Where programs are looked for: Debian has servers in a folder that is not in every PATH."""
ASTERISK_TREE = PROJECT / ".cache" / "asterisk"


def missing() -> str:
    """Say what is missing and how to have it; nothing when all is there."""
    lacking = []
    if os.geteuid() != 0:
        lacking.append("root (for the chroot)")
    elif not _asterisk_runs():
        lacking.append("Asterisk in .cache/asterisk")
    lacking += [
        name
        for name, program in (
            *(("SIPp", "sipp"), ("curl", "curl"), ("OsmoHLR", "osmo-hlr"), ("radclient", "radclient")),
            *(("nginx", "nginx"), ("HAProxy", "haproxy"), ("PgBouncer", "pgbouncer")),
        )
        if shutil.which(program, path=PROGRAMS) is None
    ]
    if find_programs() is None:
        lacking.append("PostgreSQL")
    if find_chromium() is None:
        lacking.append("Chromium")
    if not lacking:
        return ""
    return f"no {', no '.join(lacking)}: run `make test` (or `bash tests/system/prepare.sh`) as root on Debian 12"


def find_chromium() -> str | None:
    """Return where Chromium is: the program without windows, which takes a third less time of the processor."""
    return shutil.which("chromium-headless-shell", path=PROGRAMS)


def _asterisk_runs() -> bool:
    command = ["chroot", str(ASTERISK_TREE), "/usr/sbin/asterisk", "-V"]
    return ASTERISK_TREE.is_dir() and subprocess.run(command, capture_output=True, check=False).returncode == 0
