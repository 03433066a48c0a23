"""What the scripts ask of a channel and set on it.

A channel may refuse a command: one that has hung up answers many of them with 511. That ends no script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.codec import AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.agi.commands import ask, set_variable
from celcombiller.asterisk.ami.event_clock import filter_skew
from celcombiller.core.model.calls import CallReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from celcombiller.config.tables import Prompts
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")

NAMESPACE = "celcombiller.asterisk.scripts.Scripts"
"""The log namespace of all scripts of calls, by which operators filter."""

_LOG = Logger(namespace=NAMESPACE)


_LAST_DIAL = (
    *("${DIALSTATUS}", "${ANSWEREDTIME_MS}", "${HANGUPCAUSE}", f"${{{channel_variables.ANSWERED}}}"),
    channel_variables.NOW,
)
"""What is asked of a channel about its last Dial."""

_ENDED = f"${{{channel_variables.ENDED}}}"

_AHEAD_MAX = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps a script going: a command that is refused, or a fault of our own, is logged, and the next step follows."""

    agi: Any
    script: str
    metrics: Metrics

    async def attempt(self, step: Callable[[], Awaitable[T]], what: str, *, tries: int = 1) -> T | None:
        """Do a step, up to so many times; return its result, or ``None`` when it did not succeed.

        Raises only `ConnectionClosed` and `AgiProtocolError`: then there is no session any more.
        """
        for _ in range(tries):
            try:
                return await step()
            except (ConnectionClosed, AgiProtocolError):
                raise
            except AgiCommandRefused as refusal:
                _LOG.info(
                    "Channel {uniqueid!r}: {what}: {error}",
                    uniqueid=uniqueid_of(self.agi),
                    what=what,
                    error=str(refusal),
                )
            except Exception:  # noqa: BLE001  one step must not end the script of a call
                self.count_fault(what)
        return None

    def count_fault(self, what: str) -> None:
        """Log the exception being handled with its traceback, and count it."""
        _LOG.failure("Channel {uniqueid!r}: {what} failed", uniqueid=uniqueid_of(self.agi), what=what)
        self.metrics.calls.script_faults.labels(self.script).inc()


def uniqueid_of(agi: Any) -> str:
    """Return the uniqueid of a session's channel, for the log."""
    return str(agi.variables.get("agi_uniqueid", ""))


async def set_result(agi: Any, code: str) -> bool:
    """Set the result; return whether the channel took it."""
    try:
        await set_variable(agi, channel_variables.RESULT, code)
    except AgiProtocolError:
        raise
    except (AgiCommandRefused, ConnectionClosed) as error:
        _LOG.warn("Channel {uniqueid!r}: no result is set: {error}", uniqueid=uniqueid_of(agi), error=str(error))
        return False
    return True


async def refuse(agi: Any, prompts: Prompts, code: str) -> None:
    """Set the result, and play the prompt of this refusal where there is one."""
    is_set = await set_result(agi, code)
    prompt = getattr(prompts, code.lower(), "")
    if prompt and is_set and not agi.hungup:
        try:
            await agi.streamFile(prompt)
        except (AgiCommandRefused, ConnectionClosed) as error:
            _LOG.warn("The prompt {prompt!r} was not played: {error}", prompt=prompt, error=str(error))


async def read_report(agi: Any) -> CallReport:
    """Read what the channel says of its last Dial, by Asterisk's clock."""
    report, _ = await _read(agi)
    return report


async def read_end(agi: Any, *expressions: str) -> tuple[CallReport, list[str]]:
    """Read what a channel at its end says of its last Dial, and what else is asked, in one question.

    It may say when it ended: that is earlier than now, if the biller stood still.
    """
    report, (over, *values) = await _read(agi, _ENDED, *expressions)
    ended_at = channel_variables.instant(over)
    return (report if ended_at is None else structs.replace(report, at=min(report.at, ended_at))), values


async def _read(agi: Any, *expressions: str) -> tuple[CallReport, list[str]]:
    asked_at = datetime.now(UTC)
    status, answered_ms, cause, answered, now, *values = await ask(agi, *_LAST_DIAL, *expressions)
    at = channel_variables.instant(now) or datetime.now(UTC)
    ahead = measure_ahead(at, asked_at)
    return report_of(status, answered_ms, answered, at, cause=cause, ahead=ahead), values


def measure_ahead(told: datetime, asked_at: datetime) -> timedelta:
    """Return by how much Asterisk's clock is ahead of ours, from the time that it told since we asked for it.

    Where the clocks agree, that is between then and now. 0: they differ by no more than a message takes.
    """
    return filter_skew(told - min(max(told, asked_at), datetime.now(UTC)))


def report_of(
    status: str,
    answered_ms: str,
    answered: str | None,
    now: datetime,
    *,
    cause: str = "",
    ahead: timedelta = timedelta(),
) -> CallReport:
    """Return the report of a Dial by the channel's own variables. An answer that is to come was never an answer."""
    answered_at = channel_variables.instant(answered)
    if answered_at is not None and answered_at > now + _AHEAD_MAX:
        answered_at = None
    return CallReport(
        answered=status == "ANSWER",
        at=now,
        talk_ms=channel_variables.milliseconds(answered_ms),
        answered_at=answered_at,
        outcome=f"{status} {cause}".strip()[:64],
        ahead=ahead,
    )


def dial_string(template: str, callee: Subscriber) -> str:
    """Return how a subscriber is dialled."""
    return template.format(imsi=callee.imsi, clid=callee.clid, username=callee.username)


def shorten(number: str) -> str:
    """Return the last four digits of a number, which is all that a log may have."""
    return f"…{re.sub('[^0-9A-Za-z]', '', number)[-4:]}"
