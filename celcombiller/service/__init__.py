"""Twistd options and makeService."""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.exc import DBAPIError
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

from celcombiller.config import loader
from celcombiller.config.exposed_secrets import list_exposed_secrets
from celcombiller.config.settings_in_force import read_origins
from celcombiller.core.errors import BillerError
from celcombiller.database.engine import open_engine
from celcombiller.database.health import check_database
from celcombiller.database.transaction import explain_database_error
from celcombiller.runtime.log import observers as log_observers
from celcombiller.runtime.process import cpu_affinity, prefork
from celcombiller.runtime.process.event_dispatch import dispatch_directly
from celcombiller.runtime.tls_trust import ignore_deprecations
from celcombiller.service.wiring import build, with_backlog

if TYPE_CHECKING:
    from twisted.application.service import IService

    from celcombiller.config.tables import Config
    from celcombiller.service.root import Root

_LOG = Logger()


GARBAGE = (10_000, 20, 20)
"""The thresholds of the garbage collector. Python's own 700 means a collection at every second call, and nearly all
objects live on."""


class Options(usage.Options):
    """The options of ``twistd celcombiller``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Prepaid biller for Asterisk and OpenBTS: REST API, FastAGI and AMI in one process. "
        "Without --config: ./celcombiller.toml, then /etc/celcombiller/celcombiller.toml, then built-in defaults. "
        "Run `celcombiller init` once before."
    )
    optParameters: ClassVar[list[list[Any]]] = [["config", "c", None, "the TOML file with the settings"]]


def use_monotonic_time(reactor: Any) -> None:
    """Have timers not follow the wall clock, as Twisted's do (`time.time`).

    A box without a battery boots in 1970 and is set right by NTP later: all deadlines would be over at once. A clock
    that is set back would stop all timers for as long. A reactor that runs already has timers by its own clock.
    """
    if not reactor.running:
        reactor.seconds = time.monotonic


def stop_once(reactor: Any) -> None:
    """Have a second SIGTERM or Ctrl-C change nothing: Twisted's reactor, which stops already, logs a traceback.

    Signals are ignored once the shutdown has begun. Each one that comes before asks the reactor to stop: only the first
    of these requests counts.
    """
    if reactor.running:
        return
    stop = reactor.stop

    def stop_unless_stopped() -> None:
        with suppress(ReactorNotRunning):
            stop()

    reactor.stop = stop_unless_stopped
    for each in (signal.SIGTERM, signal.SIGINT):
        reactor.addSystemEventTrigger("before", "shutdown", signal.signal, each, signal.SIG_IGN)


def makeService(options: Options) -> IService:
    """Build the service from the settings, or exit with one line about what is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415  importing it installs it

    ignore_deprecations()
    use_monotonic_time(reactor)
    stop_once(reactor)
    dispatch_directly()
    try:
        path = options["config"]
        file = Path(path) if path else loader.find_file()
        config, origins = loader.load(file, os.environ), read_origins(file, os.environ)
        for each in list_exposed_secrets(file, os.environ):
            _LOG.warn("{file} holds a secret and can be read by every user: chmod o= it", file=str(each.resolve()))
        number = prefork.number(os.environ)
        service: Root | prefork.Workers
        if number is not None:
            prefork.join(reactor)
            service = build(reactor, config, partial(prefork.InheritedSocketReactor, reactor), origins)
        elif config.service.workers > 1:
            service = share(reactor, config, file, options.parent)
        else:
            service = build(reactor, config, origins=origins)
    except BillerError as error:
        raise SystemExit(f"celcombiller: {error}") from None
    except DBAPIError as error:
        raise SystemExit(f"celcombiller: {explain_database_error(error)}") from None
    # These objects live to the end. A full collection that looks at them stops everything for 60 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    if config.service.one_core and not isinstance(service, prefork.Workers):
        core = cpu_affinity.pin_to_one_core(number)
        if core is not None:
            _LOG.info("Calls are worked on on core {core} alone (service.one_core)", core=core)
    service.log_observer = log_observers.observer(
        options.parent or {}, as_json=config.service.log == "json", worker=number
    )
    return service


def share(reactor: Any, config: Config, file: Path | None, attended: Any) -> prefork.Workers:
    """Return the service that starts several processes, each with its own `build`.

    What would stop all of them is checked here: raises a `BillerError`.
    """
    prefork.check_attended(attended)
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    check_database(engine)
    engine.dispose()
    listens = {"agi": with_backlog(config.agi.listen), "rest": config.rest.listen}
    return prefork.Workers(reactor, listens, config.service.workers, file)
