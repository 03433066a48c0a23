"""Where the journal is, and the name of the ledger that it is of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from celcombiller.asterisk.outage.journal_file import JournalFile
from celcombiller.database.ledger_file import path_of

if TYPE_CHECKING:
    from celcombiller.asterisk.outage.journal_entries import JournalEntries
    from celcombiller.config.tables import Config

SUFFIX = ".calls"

SYSTEM_FOLDER = Path("/var/lib/celcombiller")
"""Where the system's service runs."""


def find_journal(config: Config, folder: Path | None = None) -> Path:
    """Return the path of the journal. ``folder`` is where the service runs; by default, where this program does."""
    if config.calls.journal:
        return Path(config.calls.journal)
    path = path_of(config.database.url)
    if path is not None:
        return path.with_name(path.name + SUFFIX)
    return (folder or Path.cwd()) / f"celcombiller{SUFFIX}"


def read_journal(config: Config) -> tuple[Path, JournalEntries | None]:
    """Return the path of the journal of a service, and what waits in it; ``None``: there is no file.

    With PostgreSQL the file of the system's service is meant where there is none in this folder. Raises `JournalFault`.
    """
    path = find_journal(config)
    if not path.exists() and not config.calls.journal and path_of(config.database.url) is None:
        of_service = find_journal(config, SYSTEM_FOLDER)
        path = of_service if of_service.exists() else path
    if not path.exists():
        return path, None
    file = JournalFile(path, name_ledger(config))
    try:
        return path, file.read()
    finally:
        file.close()


def name_ledger(config: Config) -> str:
    """Return the name of the ledger, so that no journal is charged to another one."""
    url = make_url(config.database.url)
    return f"{url.get_backend_name()} {Path(url.database or '').name}"
