"""The script ``reducer``: reports the end of a channel's call, from the dialplan's extension ``h``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi_commands import set_variable
from celcombiller.asterisk.scripts.channel import read_report, server_of
from celcombiller.core.charging.requests import Terminate
from celcombiller.core.model.calls import CallState, Witness

if TYPE_CHECKING:
    from celcombiller.asterisk.scripts.settlement import CallSettlement
    from celcombiller.config.tables import Config


class HangupScript:
    """Confirms what ``caller`` settled, or settles it now."""

    def __init__(self, config: Config, settlement: CallSettlement) -> None:
        self._config = config
        self._settlement = settlement

    async def __call__(self, agi: Any) -> None:
        """Report the end of this channel's call.

        Where ``caller`` settled it here, the charge is durable already, and the dialplan does not wait.
        """
        report = await read_report(agi)
        server = server_of(agi, self._config.asterisk)
        end = Terminate(server, agi.variables["agi_uniqueid"], Witness.REDUCER, report)
        if self._settlement.is_repeat(end):
            self._settlement.submit(end, deferrable=True)
        else:
            settlement = await self._settlement.settle(end)
            if settlement is None or settlement.call.state is CallState.OPEN:
                return
        await set_variable(agi, channel_variables.SETTLED, "1")
