"""The operator's command, run in this process: to start the program costs a second, and tests give it by the hundred."""

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from celcombiller import cli

_alone = threading.Lock()
"""Output, folder and environment are the whole process's: one command at a time."""


def run(folder: Path, words: Sequence[str]) -> tuple[int, str]:
    """Run `celcombiller` with these words in that folder; return its status and all that it printed."""
    said = io.StringIO()
    with (
        _alone,
        contextlib.chdir(folder),
        _environment_of_an_operator(),
        _connections_closed(),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            status = cli.main(words)
        except SystemExit as over:
            status = over.code
    return int(status or 0), said.getvalue()


def environment() -> dict[str, str]:
    """Return this process's environment without settings for the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CELCOMBILLER_")}


@contextlib.contextmanager
def _environment_of_an_operator() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in set(os.environ) - set(environment())}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextlib.contextmanager
def _connections_closed() -> Iterator[None]:
    """Close what the command leaves open, as the end of its process would."""
    engines = set()

    def connected(connection: sa.Connection) -> None:
        engines.add(connection.engine)

    sa.event.listen(sa.Engine, "engine_connect", connected)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "engine_connect", connected)
        for engine in engines:
            engine.dispose()
