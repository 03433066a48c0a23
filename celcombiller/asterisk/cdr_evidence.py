"""Asterisk's own record as evidence of the end of a call that no witness saw."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.errors import InvalidValue
from celcombiller.core.reconciliation.cdr import join_rows
from celcombiller.core.reconciliation.settlement import report_of_cdr

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from celcombiller.cdr.source import CdrSource
    from celcombiller.core.model.calls import Call, CallReport
    from celcombiller.core.reconciliation.cdr import CdrRow

_LOG = Logger()


class CdrEvidence:
    """Finds the record of a call in the source of ``[cdr]``, of the calls of its server. ``in_thread`` reads it."""

    def __init__(
        self,
        server: str,
        source: CdrSource,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> None:
        self._server, self._source = server, source
        self._in_thread, self._now = in_thread, now

    async def find(self, call: Call) -> CallReport | None:
        """Return what the record says of the end of an open call; ``None``: there is none, or it cannot be read."""
        if call.server != self._server:
            return None
        find = partial(self._source.find, call.uniqueid, self._now())
        try:
            rows: Sequence[CdrRow] = await self._in_thread(find)
        except InvalidValue as error:
            _LOG.warn("No CDR of {call}: {reason}", call=call.reference, reason=str(error))
            return None
        return report_of_cdr(call, join_rows(rows), self._source.label) if rows else None
