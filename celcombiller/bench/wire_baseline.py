"""The baseline of the wire: the commands of `Scripts` in their order, on the same protocol, with no ledger.

A biller in Python on this protocol cannot be faster. It runs as a program with a port as its argument.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.commands import full_variable, set_variable
from celcombiller.asterisk.agi.server import FastAGIFactory
from celcombiller.asterisk.scripts.call_origin import ORIGIN

STATE = (
    f"0|${{CHANNEL(state)}}|${{CHANNEL(accountcode)}}|${{{channel_variables.LIMIT}}}"
    f"|${{{channel_variables.NUMBER}}}|${{DIALSTATUS}}|${{ANSWEREDTIME_MS}}|${{{channel_variables.ANSWERED}}}"
    f"|{channel_variables.NOW}|{'|'.join(ORIGIN)}"
)
ENDING = (
    f"0|${{DIALSTATUS}}|${{ANSWEREDTIME_MS}}|${{HANGUPCAUSE}}|${{{channel_variables.ANSWERED}}}|{channel_variables.NOW}"
)
AT_HANGUP = (
    f"{ENDING}|${{{channel_variables.ENDED}}}|${{{channel_variables.RESULT}}}|${{{channel_variables.LET_GO}}}|${{{channel_variables.SECONDS}}}"
    "|${CHANNEL(accountcode)}"
)


async def script(agi: Any) -> None:
    """Send the commands of the two scripts for a call that is granted and answered."""
    if agi.variables["agi_network_script"] == "reducer":
        await full_variable(agi, AT_HANGUP)
        await set_variable(agi, channel_variables.SETTLED, "1")
        return
    await full_variable(agi, STATE)
    await agi.execute(
        "MSET",
        f"{channel_variables.SECONDS}=7200",
        f"{channel_variables.RESULT}=GRANTED",
        f"{channel_variables.LIMIT}=7240",
        f"__{channel_variables.PAID}=1001:1002:1795390000.1",
    )
    await agi.execute("DIAL", "PJSIP/IMSI724000001000001@openbts,40,giL(7200000)")
    await full_variable(agi, ENDING)
    await agi.setAutoHangup(0)


if __name__ == "__main__":
    listening: Any = reactor
    listening.listenTCP(int(sys.argv[1]), FastAGIFactory(script), backlog=4096, interface="127.0.0.1")
    listening.run()
