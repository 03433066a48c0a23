"""The journal as the reactor sees it: what is asked of it in one turn is made durable together, in its own thread."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.asterisk.outage.journal_file import JournalFault, JournalFile
from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from celcombiller.asterisk.outage.journal_entries import JournalEntries, Line

T = TypeVar("T")

_LOG = Logger()


@dataclass(frozen=True, slots=True)
class JournalState:
    """What the journal holds: calls that wait to be charged, those of them that may still talk, and their exposure.

    ``fault``: why nothing can be written; empty: it can.
    """

    waiting: int = 0
    live: int = 0
    exposed_credits: int = 0
    fault: str = ""


def state_of(entries: JournalEntries) -> JournalState:
    """Return what these calls amount to."""
    exposures = [*entries.exposures]
    return JournalState(
        len(exposures), sum(each.is_open for each in exposures), sum(each.credits for each in exposures)
    )


class Journal:
    """The journal of one process, in a file that it may share with others. The thread begins with the first use."""

    def __init__(self, reactor: Any, path: Path, ledger: str) -> None:
        self._reactor = reactor
        self._file = JournalFile(path, ledger)
        self._queue: queue.SimpleQueue[tuple[Any, Deferred[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed: Deferred[None] = Deferred()
        self.state = JournalState()

    @property
    def exists(self) -> bool:
        """Whether there is a file."""
        return self._file.path.exists()

    def change(self, work: Callable[[JournalEntries], tuple[Sequence[Line], T]]) -> Deferred[T]:
        """Do ``work`` on what waits; fires with its result once the lines that it returns are durable.

        Fails with the `BillerError` that it raises, or with `JournalFault`.
        """
        done: Deferred[T] = Deferred()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()
        self._queue.put((work, done))
        return done

    def write(self, *lines: Line) -> Deferred[None]:
        """Append lines; fires once they are durable."""
        return self.change(lambda _entries: (lines, None))

    def close(self) -> Deferred[None]:
        """Write what was asked so far, then end."""
        if self._thread is None:
            self._closed.callback(None)
        else:
            self._queue.put(None)
        return self._closed

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            taken = [self._queue.get()]
            while True:
                try:
                    taken.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            last = None in taken
            tasks = [each for each in taken if each is not None]
            if tasks:
                self._change(tasks)
        self._file.close()
        self._reactor.callFromThread(self._closed.callback, None)

    def _change(self, tasks: Sequence[tuple[Any, Deferred[Any]]]) -> None:
        results: Sequence[Any]
        try:
            results = self._file.change([work for work, _ in tasks])
            state = state_of(self._file.entries)
        except JournalFault as fault:
            results, state = [fault] * len(tasks), JournalState(fault=str(fault))
        except Exception:  # noqa: BLE001  a fault of ours must not end the thread: nothing was written
            results, state = [Failure()] * len(tasks), JournalState(fault="a fault of the program: see the log")
        self._reactor.callFromThread(self._answer, tasks, results, state)

    def _answer(self, tasks: Sequence[tuple[Any, Deferred[Any]]], results: Sequence[Any], state: JournalState) -> None:
        if state.fault and state.fault != self.state.fault:
            _LOG.error("The journal cannot be used, so no call goes without the ledger: {fault}", fault=state.fault)
        elif self.state.fault and not state.fault:
            _LOG.info("The journal can be used again: {path}", path=str(self._file.path))
        if state.fault:  # what waits still waits
            was = self.state
            state = JournalState(was.waiting, was.live, was.exposed_credits, state.fault)
        self.state = state
        for (_, done), result in zip(tasks, results, strict=True):
            if isinstance(result, BillerError | Failure):
                done.errback(result)
            else:
                done.callback(result)
