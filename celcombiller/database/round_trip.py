"""Statements to PostgreSQL in one round trip: a transaction begins with its first one and ends with its last.

psycopg sends a statement, and BEGIN and COMMIT too, when the one before is answered, each with half a hundred function
calls: a batch of one request spent half of its time so. Here they go out together on psycopg's own connection, as
libpq's pipeline mode allows (PostgreSQL's documentation, 34.5), prepared at their first use.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any

from psycopg import OperationalError
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

PREPARED_MAX = 200
"""Most statements that a session prepares: far more than a batch has forms. Others are planned each time."""


class RoundTrips:
    """The round trips of one connection, which no other thread may use meanwhile."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._wire: PGconn = connection.pgconn
        self._readable, self._ready = select.poll(), select.poll()
        self._readable.register(self._wire.socket, select.POLLIN)
        self._ready.register(self._wire.socket, select.POLLIN | select.POLLOUT)
        self._names: dict[str, bytes] = {}
        self._named = 0
        self._are_names_certain = True
        self.commit_began: float | None = None
        """When, by ``time.perf_counter``, the round trip began that committed the last transaction."""

    def doubt_names(self) -> None:
        """Ask, before the next round trip, what is still prepared: psycopg may deallocate all in a rollback."""
        self._are_names_certain = False

    def execute(self, text: str, values: Sequence[str], *, commits: bool = False) -> list[bytes | None]:
        """Execute a statement, in a transaction that begins with it where there is none; return its first row.

        The text has a ``%s`` for each value, and no other percent sign. ``commits``: the transaction ends with it.
        Raises psycopg's errors.
        """
        if not self._are_names_certain:
            self._check_names()
        statements: list[tuple[str, Sequence[str]]] = [(text, values)]
        if self._wire.transaction_status == TransactionStatus.IDLE and not self._connection.autocommit:
            if self._connection.isolation_level is None:
                statements.insert(0, ("begin", ()))
            else:
                self._connection.execute("select 1")  # psycopg begins it as it was asked to
        place = len(statements) - 1
        if commits:
            statements.append(("commit", ()))
        began = time.perf_counter()
        result = self._exchange(statements)[place]
        if commits:
            self.commit_began = began
        return [result.get_value(0, column) for column in range(result.nfields)]

    def _exchange(self, statements: Sequence[tuple[str, Sequence[str]]]) -> list[PGresult]:
        """Send statements together; return a result of each. After one that fails, no other is executed."""
        wire, names = self._wire, self._names
        new = {text: self._make_name() for text, _ in statements if text not in names and len(names) < PREPARED_MAX}
        given = [[each.encode() for each in values] for _, values in statements]
        is_over = False
        try:
            wire.enter_pipeline_mode()
            for text, name in new.items():
                wire.send_prepare(name, _numbered(text))
            for (text, _), values in zip(statements, given, strict=True):
                prepared = names.get(text) or new.get(text)
                if prepared is None:
                    wire.send_query_params(_numbered(text), values)
                else:
                    wire.send_query_prepared(prepared, values)
            wire.pipeline_sync()
            results = self._receive()
            wire.exit_pipeline_mode()
            is_over = True
        finally:
            if not is_over:  # an answer that is not read would be taken for that to the next statement
                wire.finish()
        for text, result in zip(new, results, strict=False):
            if result.status == ExecStatus.COMMAND_OK:
                names[text] = new[text]
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        return results[len(new) :]

    def _receive(self) -> list[PGresult]:
        """Send what is not sent yet; return all results up to that of the synchronisation."""
        wire = self._wire
        results: list[PGresult] = []
        is_unsent = wire.flush()
        while True:
            while wire.is_busy():
                (self._ready if is_unsent else self._readable).poll()
                wire.consume_input()
                is_unsent = is_unsent and wire.flush()
            result = wire.get_result()
            if result is None:
                if wire.status != ConnStatus.OK:
                    raise OperationalError("the connection was lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return results
            else:
                results.append(result)

    def _make_name(self) -> bytes:
        self._named += 1
        return b"celcombiller_%d" % self._named

    def _check_names(self) -> None:
        result = self._wire.exec_(b"select name from pg_prepared_statements")
        prepared = {result.get_value(row, 0) for row in range(result.ntuples)}
        self._names = {text: name for text, name in self._names.items() if name in prepared}
        self._are_names_certain = True


def _numbered(text: str) -> bytes:
    """Return the statement with ``$1``, ``$2``... for its places, as libpq has them."""
    first, *others = text.split("%s")
    return "".join([first, *(f"${number}{each}" for number, each in enumerate(others, 1))]).encode()
