"""The script ``reducer``: reports the end of a channel's call, from the dialplan's extension ``h``."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.commands import set_variable
from celcombiller.asterisk.scripts.channel import NAMESPACE, Guard, read_end
from celcombiller.asterisk.server_identity import ServerNotIdentified
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.runtime.metrics.calls import GRANTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.asterisk.scripts.settlement import CallSettlement
    from celcombiller.asterisk.server_identity import ServerIdentity
    from celcombiller.core.model.calls import CallReport
    from celcombiller.runtime.metrics import Metrics

_LOG = Logger(namespace=NAMESPACE)

_DECISION = (
    *(f"${{{channel_variables.RESULT}}}", f"${{{channel_variables.LET_GO}}}", f"${{{channel_variables.SECONDS}}}"),
    "${CHANNEL(accountcode)}",
)
"""What is asked of a channel at its end, besides how it ended."""

_LET_GO = re.compile(r"([0-9a-f]{16}):(.{1,40})")


class HangupScript:
    """Confirms what ``caller`` settled, or settles it now."""

    def __init__(
        self,
        servers: ServerIdentity,
        monitors: Mapping[str, AmiLink],
        settlement: CallSettlement,
        metrics: Metrics,
        outage: OutageControl,
    ) -> None:
        self._outage = outage
        self._servers = servers
        self._monitors = monitors
        self._settlement = settlement
        self._metrics = metrics

    async def __call__(self, agi: Any) -> None:
        """Report the end of this channel's call.

        Where ``caller`` settled it here, the charge is durable already, and the dialplan does not wait; nor does it for
        a call that was refused.
        """
        guard = Guard(agi, "reducer", self._metrics)
        read = await guard.attempt(partial(read_end, agi, *_DECISION), "reading of its end", tries=2)
        if read is None:  # AMI and the sweep are left to say how it ended
            return
        report, (result, let_go, seconds, code) = read
        uniqueid = agi.variables["agi_uniqueid"]
        try:
            server = await self._servers.identify(agi)
        except ServerNotIdentified as error:
            _LOG.error("The end of channel {uniqueid!r}: {error}", uniqueid=uniqueid, error=str(error))
            return
        if server in self._monitors:
            report = self._monitors[server].correct(uniqueid, report)
        request = _let_go_request(agi, server, report, let_go, code)
        end = Terminate(server, uniqueid, Witness.REDUCER, report)
        if request is not None:
            limit_seconds = int(seconds) if seconds.isascii() and seconds.isdecimal() and len(seconds) <= 5 else None  # noqa: PLR2004
            end = replace(end, unauthorized_request=request, limit_seconds=limit_seconds)
            self._outage.record_end(request.authorization, Witness.REDUCER, report)
        if self._settlement.is_repeat(end):
            self._settlement.submit(end, deferrable=True)
        elif result not in ("", GRANTED):
            self._settlement.submit(end)
            return
        else:
            settlement = await self._settlement.settle(end)
            if settlement is None or settlement.call.state is CallState.OPEN:
                return
        await guard.attempt(partial(set_variable, agi, channel_variables.SETTLED, "1"), "setting its end", tries=2)


def _let_go_request(agi: Any, server: str, report: CallReport, let_go: str, code: str) -> Initiate | None:
    """Return the request of a call that was let go without an answer, as the biller that let it go left it there."""
    found = _LET_GO.fullmatch(let_go)
    if found is None:
        return None
    return Initiate(
        server=server,
        uniqueid=agi.variables["agi_uniqueid"],
        authorization=found[1],
        channel=agi.variables.get("agi_channel", ""),
        account_code=code or agi.variables.get("agi_accountcode", ""),
        caller_number=agi.variables.get("agi_callerid", ""),
        called_number=found[2],
        answered_early=False,
        previous=report,
    )
