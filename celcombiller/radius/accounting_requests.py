"""Accounting-Requests: usage is charged, and acknowledged only when it is durable."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyrad import packet as pyrad
from twisted.logger import Logger

from celcombiller.core.data.accounting_reports import AcctStatusType, NasRestart, Usage
from celcombiller.core.errors import UnknownSubscriber
from celcombiller.radius import codec

if TYPE_CHECKING:
    from celcombiller.config.tables import RadiusClient
    from celcombiller.core.data.accounting_reports import Conditions
    from celcombiller.core.data.session import DataSession
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.radius.throttled_log import ThrottledLog


class AccountingRequests:
    """Answers Accounting-Requests; those of the same moment share one transaction."""

    _log = Logger()

    def __init__(self, conditions: Conditions, store: BatchWriter, warnings: ThrottledLog) -> None:
        self._conditions = conditions
        self._store = store
        self._warnings = warnings

    async def __call__(self, packet: Any, client: RadiusClient, address: str) -> tuple[str, bytes]:
        """Return the result and the answer. Raises `DiscardPacket` and `StoreUnavailable`: then there is no answer."""
        if packet.code == pyrad.StatusServer:
            return "STATUS", codec.alive(packet, accounting=True)
        report = codec.report_of(packet, client, address, self._conditions, datetime.now(UTC))
        if report is None:
            return "ACCOUNTED", codec.accounted(packet)
        try:
            answer = await self._store.charge(report)
        except UnknownSubscriber:
            # Without an answer the NAS would repeat it for ever.
            why = f"data of {_who(report)!r}, who is nobody here, is not charged"
            self._warnings.warn(report.nas, "UNKNOWN_USER", why)
            return "UNKNOWN_USER", codec.accounted(packet)
        self._log_report(report, answer)
        return "ACCOUNTED", codec.accounted(packet)

    def _log_report(self, report: Usage | NasRestart, answer: DataSession | list[DataSession]) -> None:
        if isinstance(report, NasRestart):
            closed = answer if isinstance(answer, list) else []
            self._log.info(
                "{nas}: {cause}: {count} sessions are over", nas=report.nas, cause=report.cause, count=len(closed)
            )
        elif not isinstance(answer, list):
            if report.octets > answer.octets:
                why = f"{report.octets} octets of an earlier session that is not known here are not charged"
                self._warnings.warn(f"{report.nas}, session {report.session_id!r}", "BACKWARDS", why)
                return
            if _is_behind(report, answer):
                why = f"{report.octets} octets are reported after {answer.octets}: {answer.octets} are charged"
                if report.wraps:
                    why += (
                        ". If a counter of 32 bits wrapped, have the NAS send Gigawords and packets, or report sooner"
                    )
                self._warnings.warn(f"{report.nas}, session {report.session_id!r}", "BACKWARDS", why)
                return
            self._log.info(
                "{nas}: session {session!r} {told}: {octets} octets, {charged} credits charged",
                nas=report.nas,
                session=report.session_id,
                told=report.status_type.value,
                octets=answer.octets,
                charged=answer.charged,
            )


def _is_behind(report: Usage, session: DataSession) -> bool:
    """Return whether a report, other than a Start, has counters that its session has passed."""
    counters = (session.octets_in, session.octets_out)
    if report.wraps:
        counters = (session.octets_in % codec.GIGAWORD, session.octets_out % codec.GIGAWORD)
    is_start = report.status_type is AcctStatusType.START
    return not is_start and report.octets < session.octets and (report.octets_in, report.octets_out) != counters


def _who(report: Usage | NasRestart) -> str:
    return report.username if isinstance(report, Usage) else ""
