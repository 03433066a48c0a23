"""The script ``reducer``: reports the end of a channel's call, from the dialplan's extension ``h``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi_commands import set_variable
from celcombiller.asterisk.scripts.channel import NAMESPACE, read_report
from celcombiller.asterisk.server_identity import ServerNotIdentified
from celcombiller.core.charging.requests import Terminate
from celcombiller.core.model.calls import CallState, Witness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.asterisk.ami_link import AmiLink
    from celcombiller.asterisk.scripts.settlement import CallSettlement
    from celcombiller.asterisk.server_identity import ServerIdentity


_LOG = Logger(namespace=NAMESPACE)


class HangupScript:
    """Confirms what ``caller`` settled, or settles it now."""

    def __init__(self, servers: ServerIdentity, monitors: Mapping[str, AmiLink], settlement: CallSettlement) -> None:
        self._servers = servers
        self._monitors = monitors
        self._settlement = settlement

    async def __call__(self, agi: Any) -> None:
        """Report the end of this channel's call.

        Where ``caller`` settled it here, the charge is durable already, and the dialplan does not wait.
        """
        report = await read_report(agi, ended=True)
        try:
            server = await self._servers.identify(agi)
        except ServerNotIdentified as error:
            _LOG.error(
                "The end of channel {uniqueid!r}: {error}", uniqueid=agi.variables["agi_uniqueid"], error=str(error)
            )
            return
        uniqueid = agi.variables["agi_uniqueid"]
        if server in self._monitors:
            report = self._monitors[server].correct(uniqueid, report)
        end = Terminate(server, uniqueid, Witness.REDUCER, report)
        if self._settlement.is_repeat(end):
            self._settlement.submit(end, deferrable=True)
        else:
            settlement = await self._settlement.settle(end)
            if settlement is None or settlement.call.state is CallState.OPEN:
                return
        await set_variable(agi, channel_variables.SETTLED, "1")
