"""What the scripts ask of a channel and set on it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi_codec import AgiCommandRefused
from celcombiller.asterisk.agi_commands import ask, set_variable
from celcombiller.core.model.calls import CallReport

if TYPE_CHECKING:
    from celcombiller.config.tables import Prompts
    from celcombiller.core.model.subscribers import Subscriber

NAMESPACE = "celcombiller.asterisk.scripts.Scripts"
"""The log namespace of all scripts of calls, by which operators filter."""

_LOG = Logger(namespace=NAMESPACE)


async def refuse(agi: Any, prompts: Prompts, code: str) -> None:
    """Set the result, and play the prompt of this refusal where there is one."""
    await set_variable(agi, channel_variables.RESULT, code)
    prompt = getattr(prompts, code.lower(), "")
    if prompt:
        try:
            await agi.streamFile(prompt)
        except (AgiCommandRefused, ConnectionClosed) as error:
            _LOG.warn("The prompt {prompt!r} was not played: {error}", prompt=prompt, error=str(error))


async def read_report(agi: Any, *, ended: bool = False) -> CallReport:
    """Read what the channel says of its last Dial, by Asterisk's clock.

    ``ended``: the channel itself is at its end, and may say when that was: it is earlier, if the biller stood still.
    """
    status, answered_ms, cause, answered, over, now = await ask(
        agi,
        *("${DIALSTATUS}", "${ANSWEREDTIME_MS}", "${HANGUPCAUSE}", f"${{{channel_variables.ANSWERED}}}"),
        *(f"${{{channel_variables.ENDED}}}", channel_variables.NOW),
    )
    at = channel_variables.instant(now) or datetime.now(UTC)
    ended_at = channel_variables.instant(over) if ended else None
    return report_of(status, answered_ms, answered, at if ended_at is None else min(at, ended_at), cause=cause)


def report_of(status: str, answered_ms: str, answered: str | None, now: datetime, *, cause: str = "") -> CallReport:
    """Return the report of a Dial by the channel's own variables."""
    return CallReport(
        answered=status == "ANSWER",
        at=now,
        talk_ms=channel_variables.milliseconds(answered_ms),
        answered_at=channel_variables.instant(answered),
        outcome=f"{status} {cause}".strip()[:64],
    )


def dial_string(template: str, callee: Subscriber) -> str:
    """Return how a subscriber is dialled."""
    return template.format(imsi=callee.imsi, clid=callee.clid, username=callee.username)


def shorten(number: str) -> str:
    """Return the last four digits of a number, which is all that a log may have."""
    return f"…{re.sub('[^0-9A-Za-z]', '', number)[-4:]}"
