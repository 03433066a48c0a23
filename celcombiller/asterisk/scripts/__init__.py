"""The scripts of the dialplan over FastAGI: for calls, balances, text messages, and for selling by keypad.

A script is a conversation with one channel. It owns no credit: it asks the ledger and does what it answers. The
first thing it does is a question with a number in it that cannot be guessed: lines that a phone smuggled into the
environment would stand before the answer, and end the session (`celcombiller.asterisk.agi.codec` refuses them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk.agi.codec import AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.live_control.control import LiveControl
from celcombiller.asterisk.outage.control import make_control
from celcombiller.asterisk.pending_updates import PendingUpdates
from celcombiller.asterisk.scripts.balance import BalanceScript
from celcombiller.asterisk.scripts.call import CallScript
from celcombiller.asterisk.scripts.channel import NAMESPACE, set_result, uniqueid_of
from celcombiller.asterisk.scripts.hangup import HangupScript
from celcombiller.asterisk.scripts.settlement import CallSettlement
from celcombiller.asterisk.server_identity import ServerIdentity
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.errors import BillerError
from celcombiller.runtime.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.asterisk.scripts.selling import KeypadScripts
    from celcombiller.asterisk.scripts.sms import SmsScript
    from celcombiller.config.tables import Config
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader


_LOG = Logger(namespace=NAMESPACE)


class Scripts:
    """The scripts by the names that the dialplan gives them, and the updates that they have begun."""

    def __init__(
        self,
        clock: Any,
        config: Config,
        store: BatchWriter,
        reader: Reader,
        monitors: Mapping[str, AmiLink],
        metrics: Metrics | None = None,
        catalogue: CatalogueHolder | None = None,
        control: LiveControl | None = None,
        outage: OutageControl | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self._metrics = metrics
        self.updates = PendingUpdates(clock, metrics)
        catalogue = catalogue or CatalogueHolder(Catalogue())
        control = control or LiveControl(clock, config.calls, store, reader, monitors, metrics, catalogue)
        outage = outage or make_control(clock, config, catalogue, metrics)
        settlement = CallSettlement(store, monitors, self.updates, metrics, outage)
        self.servers = servers = ServerIdentity(config.asterisk, monitors)
        self.call = CallScript(
            clock, config, store, reader, monitors, servers, settlement, metrics, catalogue, control, outage
        )
        self.hangup = HangupScript(servers, monitors, settlement, metrics, outage)
        self.balance = BalanceScript(config, reader, self.updates)
        self.awaits_answers: Callable[[], bool] = lambda: False
        """Tells whether an answer of Asterisk is awaited that comes at once."""
        self._by_name: dict[str, Callable[[Any], Awaitable[None]]] = {
            "caller": self.call,
            "reducer": self.hangup,
            "balance": self.balance,
        }

    async def __call__(self, agi: Any) -> None:
        """Run the script that the dialplan named: ``agi://host/caller``."""
        path = agi.variables.get("agi_network_script", "") or agi.variables.get("agi_request", "").rpartition("/")[2]
        name = path.partition("?")[0].strip("/")
        script = self._by_name.get(name)
        if script is None:
            known = ", ".join(self._by_name)
            _LOG.warn("No AGI script is called {name!r}; there are {known}", name=name[:80], known=known)
            return
        try:
            await script(agi)
        except (ConnectionClosed, AgiProtocolError):
            raise
        except AgiCommandRefused as refusal:
            _LOG.warn("Channel {uniqueid!r}, {name}: {error}", uniqueid=uniqueid_of(agi), name=name, error=str(refusal))
            await set_result(agi, BillerError.code)
        except Exception:  # noqa: BLE001  the dialplan waits for a result, whatever went wrong
            _LOG.failure("Script {name} of channel {uniqueid!r} failed", name=name, uniqueid=uniqueid_of(agi))
            self._metrics.calls.script_faults.labels(name).inc()
            if script is not self.hangup:
                await set_result(agi, BillerError.code)

    def add_keypad(self, scripts: KeypadScripts) -> None:
        """Add the scripts ``sell``, ``transfer``, ``redeem`` and ``pin``."""
        self._by_name |= {
            "sell": scripts.sell,
            "transfer": scripts.transfer,
            "redeem": scripts.redeem,
            "pin": scripts.change_pin,
        }

    def add_sms(self, script: SmsScript) -> None:
        """Add the script ``sms``, which serves the messages that phones send."""
        self._by_name["sms"] = script
