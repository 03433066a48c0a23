"""The service that ``twistd celcombiller`` runs: the only file that sees everything."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import socket
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from twisted.application import strports
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from celcombiller import config as settings
from celcombiller import cores, logs, messages, migrations, networks, workers
from celcombiller.agreement import parts_of
from celcombiller.asterisk.amiclient import AMIFactory
from celcombiller.asterisk.fastagi import FastAGIFactory, run
from celcombiller.asterisk.monitor import Monitor
from celcombiller.asterisk.scripts import Scripts
from celcombiller.asterisk.texts import AmiCarrier, Texts
from celcombiller.calls import overdue_calls, server_last_seen, unwitnessed
from celcombiller.charging import Terminate, Terms, perform
from celcombiller.datasessions import silent_sessions
from celcombiller.errors import BillerError, ConfigError, StoreUnavailable
from celcombiller.metrics import Metrics
from celcombiller.model import Rate, Route, Witness
from celcombiller.nightly import CreditService
from celcombiller.nodes import announce
from celcombiller.noticing import Noticing
from celcombiller.outbox import Outbox, OutboxService, tell
from celcombiller.passwords import Passwords
from celcombiller.periodic import PeriodicService
from celcombiller.provisioning.kinds import kinds_of, network_of
from celcombiller.provisioning.provisioner import Provisioner, ProvisioningService
from celcombiller.radius.service import RadiusService, conditions_of
from celcombiller.rating import Tariff
from celcombiller.reading import READ_SECONDS_MAX, Reader
from celcombiller.rest.serving import Api
from celcombiller.rest.table import ROUTES
from celcombiller.smpp import MessageCentre
from celcombiller.store import Store, open_engine, transact
from celcombiller.watch import AUDIT_SECONDS_MAX, Audits, ReactorDelay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.application.service import IService

    from celcombiller.config import Asterisk, Config
    from celcombiller.events import Posting
    from celcombiller.model import MessageState
    from celcombiller.outbox import Carrier
    from celcombiller.provisioning.network import Network

_LOG = Logger()

OVERDUE_SECONDS = 60.0
"""How often it is looked for holds whose validity has run out, and for sessions of data that nobody tells of."""

OVERDUE_MAX = 1000

NODES_SECONDS = 15.0
"""How often a node says that it is there, where several can be."""
AGI_BACKLOG = 4096
"""Connections that may wait to be taken, as many as Linux allows: of a burst of calls Twisted's own 50 would be few,
and one that finds no place tries again after a whole second."""

GARBAGE = (10_000, 20, 20)
"""When garbage is looked for: with Python's own 700 it is at every second call, and nearly all there is lives on."""

OWN_FILES = 100
"""Open files that are no AGI sessions: databases, AMI, REST, logs."""


class Options(usage.Options):
    """What ``twistd celcombiller`` takes."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Prepaid biller for Asterisk and OpenBTS: REST API, FastAGI and AMI in one process. "
        "Without --config: ./celcombiller.toml, then /etc/celcombiller/celcombiller.toml, then built-in defaults. "
        "Run `celcombiller init` once before."
    )
    optParameters: ClassVar[list[list[Any]]] = [["config", "c", None, "the TOML file with the settings"]]


def makeService(options: Options) -> IService:
    """Build the service from the settings, or exit with the one line that says what is wrong."""
    from twisted.internet import reactor  # noqa: PLC0415  importing it installs it

    try:
        path = options["config"]
        file = Path(path) if path else settings.source()
        config = settings.load(file, os.environ)
        number = workers.number(os.environ)
        service: Root | workers.Workers
        if number is not None:
            workers.join(reactor)
            service = build(reactor, config, partial(workers.Inherited, reactor))
        elif config.service.workers > 1:
            service = share(reactor, config, file, options.parent)
        else:
            service = build(reactor, config)
    except BillerError as error:
        raise SystemExit(f"celcombiller: {error}") from None
    # What stands here stays to the end. Looked at again by each full collection of garbage, it stopped all for 60 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    if config.service.one_core and not isinstance(service, workers.Workers):
        core = cores.share_one(number)
        if core is not None:
            _LOG.info("Calls are worked on on core {core} alone (service.one_core)", core=core)
    service.log_observer = logs.observer(options.parent or {}, as_json=config.service.log == "json", worker=number)
    return service


def share(reactor: Any, config: Config, file: Path | None, attended: Any) -> workers.Workers:
    """Let several processes do it, each by its own `build`; what would keep all of them from it is said here."""
    workers.check_attended(attended)
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    check_database(engine)
    engine.dispose()
    listens = {"agi": _with_backlog(config.agi.listen), "rest": config.rest.listen}
    return workers.Workers(reactor, listens, config.service.workers, file)


def build(reactor: Any, config: Config, binder: Callable[[str], Any] = lambda _section: None) -> Root:
    """Wire everything. Raises a `BillerError` when the database or a setting makes it impossible.

    ``binder`` gives what binds the port of a section in place of the reactor.
    """
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    root = Root(hold_alone(config.database.url))
    check_database(engine)
    terms = terms_of(config)
    worker = workers.number(os.environ)
    metrics = Metrics(worker=worker)
    store = Store(reactor, engine, lambda tx, requests, now: perform(tx, terms, requests, now), metrics)
    reader, passwords = Reader(reactor, _reading(config, READ_SECONDS_MAX)), Passwords(reactor)
    monitors: dict[str, Monitor] = {}
    radio = _radio_networks(reactor, config, engine)
    scripts = Scripts(reactor, config, store, reader, monitors, metrics)
    for server in config.asterisk:
        monitor = Monitor(reactor, server.name, partial(_login, reactor, config, server), store, metrics)
        monitors[server.name] = monitor
        monitor.setServiceParent(root)
    for section, listen, factory in (
        ("agi", _with_backlog(config.agi.listen), _agi_factory(reactor, config, scripts, metrics)),
        ("rest", config.rest.listen, Api(config, store, reader, passwords, monitors, metrics, ROUTES, radio).site()),
    ):
        try:
            service = strports.service(listen, factory, binder(section))
        except ValueError as error:
            raise ConfigError(f"{section}.listen: {listen!r} is no endpoint: {error}") from None
        service.setName(section)
        service.setServiceParent(root)

    async def close() -> None:
        await close_overdue(store, monitors, datetime.now(UTC), metrics)
        await expire_messages(store, datetime.now(UTC), metrics)
        await close_silent(store, reader, config, datetime.now(UTC))

    overdue = PeriodicService(reactor, OVERDUE_SECONDS, close)
    overdue.setServiceParent(root)
    if config.sms.ways:
        _send_messages(reactor, config, root, store, reader, monitors, metrics)
        scripts.take_texts(Texts(config, store, scripts.settling, metrics))
    _provision(reactor, config, root, store, reader, radio)
    if config.radius.clients and worker in (None, 1):
        RadiusService(reactor, config.radius, store, reader, passwords, metrics).setServiceParent(root)
    if engine.dialect.name != "sqlite":
        PeriodicService(reactor, NODES_SECONDS, Comparison(store, config)).setServiceParent(root)
    rules = config.schedules.rules
    CreditService(reactor, store.transact, rules, partial(datetime.now, UTC), metrics).setServiceParent(root)
    _notice_low_balances(root, reactor, config, store, reader, metrics)
    ReactorDelay(reactor, metrics).setServiceParent(root)
    if config.metrics.audit_hours and worker in (None, 1):
        auditing = _reading(config, AUDIT_SECONDS_MAX)
        Audits(reactor, auditing, config.metrics.audit_hours, metrics).setServiceParent(root)
    root.store, root.scripts, root.config, root.metrics = store, scripts, config, metrics
    root.threads = (reader, passwords)
    return root


class Root(logs.Logged, MultiService):
    """All of it, stopped in order: first nothing new comes in, then what was begun ends, then the store closes."""

    _log = Logger()
    store: Store
    scripts: Scripts
    config: Config
    metrics: Metrics
    threads: tuple[Reader, Passwords]

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self._lock = lock

    def privilegedStartService(self) -> None:
        """Listen; a port that is taken is one line, not a traceback."""
        try:
            super().privilegedStartService()
        except CannotListenError as error:
            raise SystemExit(f"celcombiller: {error}") from None

    def startService(self) -> None:
        """Start the store, then all that uses it."""
        self._allow_open_files()
        self.store.start()
        for each in self.threads:
            each.start()
        super().startService()
        self._log.info(
            "REST on {rest}, FastAGI on {agi}, AMI of {ami}",
            rest=self.config.rest.listen,
            agi=self.config.agi.listen,
            ami=", ".join(f"{each.name} ({each.host}:{each.port})" for each in self.config.asterisk)
            or "nobody: add [[asterisk]] tables, or an end that no script tells is not heard",
        )

    def _allow_open_files(self) -> None:
        """Take as many open files as the system lets us have: each call keeps one."""
        was, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        wanted = self.config.agi.connections_max + OWN_FILES
        if most != resource.RLIM_INFINITY and most < wanted:
            self._log.warn(
                "{most} open files are allowed, {wanted} are needed for agi.connections_max: raise LimitNOFILE",
                most=most,
                wanted=wanted,
            )
        else:
            self._log.info("{most} open files are allowed ({was} before)", most=most, was=was)

    def stopService(self) -> Deferred[None]:
        """Stop, and fire when the last answer is durable."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.running = 0
        for service in reversed(list(self)):
            stopped = service.stopService()
            if isinstance(stopped, Deferred):
                await stopped
        await self.scripts.settling.drain()
        await self.store.close()
        for each in self.threads:
            each.stop()
        if self._lock is not None:
            self._lock.close()


def _with_backlog(listen: str) -> str:
    return f"{listen}:backlog={AGI_BACKLOG}" if listen.startswith("tcp") and "backlog=" not in listen else listen


def terms_of(config: Config) -> Terms:
    """Give the operator's conditions that charging needs."""
    return Terms(
        tariff=Tariff(
            Rate(row.prefix, row.name, row.connect_fee, row.price, row.increment_seconds) for row in config.rates
        ),
        ring_seconds=config.calls.ring_seconds,
        max_call_seconds=config.calls.max_call_seconds,
        external=config.calls.external_dial != "",
        messages=config.sms.terms,
    )


def check_database(engine: sa.Engine) -> None:
    """Raise unless the database answers and is of this program's version."""
    transact(engine.execution_options(reading=True), migrations.check)


def _radio_networks(reactor: Any, config: Config, engine: sa.Engine) -> dict[str, Network]:
    """Give the networks of the settings, after the database knows them too."""
    kinds = kinds_of(config)
    if kinds:
        transact(engine, partial(networks.configure, kinds=kinds, now=datetime.now(UTC)))
    return {each.name: network_of(reactor, each) for each in config.provisioning if each.name in kinds}


def _send_messages(
    reactor: Any,
    config: Config,
    root: Root,
    store: Store,
    reader: Reader,
    monitors: Mapping[str, Monitor],
    metrics: Metrics,
) -> None:
    """Have the queue of each way that is used worked by what carries messages there."""
    carriers: dict[Route, Carrier] = {}
    if Route.ASTERISK in config.sms.ways:
        carriers[Route.ASTERISK] = AmiCarrier(config, monitors)
    if Route.SMPP in config.sms.ways:

        async def receive(network_id: str, outcome: MessageState, note: str, now: datetime) -> Posting | None:
            posting = await store.transact(lambda tx: messages.receive(tx, network_id, outcome, note, now))
            if posting is not None:
                tell(_LOG, metrics, posting)
            return posting

        async def arrive(arrival: messages.Arrival, now: datetime) -> Posting:
            return await store.transact(lambda tx: messages.arrive(tx, config.sms.terms, arrival, now))

        to_phones = arrive if config.sms.terms.on_net_route is Route.ASTERISK else None
        centre = MessageCentre(reactor, config.smpp, receive, to_phones)
        centre.setServiceParent(root)
        carriers[Route.SMPP] = centre
    for route, carrier in carriers.items():
        outbox = Outbox(
            reactor,
            route,
            carrier,
            transact=store.transact,
            read=reader.read,
            charge=store.charge,
            now=partial(datetime.now, UTC),
            retry_seconds_max=config.sms.retry_seconds_max,
            metrics=metrics,
        )
        OutboxService(reactor, outbox).setServiceParent(root)


def _provision(
    reactor: Any, config: Config, root: Root, store: Store, reader: Reader, radio: Mapping[str, Network]
) -> None:
    """Have each radio network brought to what it should know."""
    for each in config.provisioning:
        if each.name in radio:
            provisioner = Provisioner(
                each.name,
                radio[each.name],
                transact=store.transact,
                read=reader.read,
                now=partial(datetime.now, UTC),
                retry_seconds_max=each.retry_seconds_max,
            )
            ProvisioningService(reactor, provisioner).setServiceParent(root)


def _notice_low_balances(
    root: Root, reactor: Any, config: Config, store: Store, reader: Reader, metrics: Metrics
) -> None:
    """Have somebody look for them, if anybody is to be told; of several workers the first."""
    if config.notices.thresholds and workers.number(os.environ) in (None, 1):
        Noticing(
            reactor,
            config.notice_rules,
            config.sms.terms,
            transact=store.transact,
            read=reader.read,
            now=partial(datetime.now, UTC),
            metrics=metrics,
        ).setServiceParent(root)


def hold_alone(url: str) -> Any:
    """Keep a second biller off a SQLite file: one process writes it well, two only wait for each other.

    The lock is the kernel's, so it ends with the process however that ends. The operator's command works meanwhile.
    """
    database = sa.make_url(url)
    if database.get_backend_name() != "sqlite" or database.database in (None, "", ":memory:"):
        return None
    try:
        lock = Path(f"{database.database}.lock").open("w")  # noqa: SIM115  held for the life of the process
    except OSError as error:
        raise StoreUnavailable(f"{database.database}: cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreUnavailable(
            f"{database.database}: another biller runs on this SQLite file; several need PostgreSQL (database.url)"
        ) from None
    return lock


async def close_overdue(store: Store, monitors: Mapping[str, Monitor], now: datetime, metrics: Metrics) -> None:
    """End calls whose hold's validity ran out; where an AMI link is up, its sweep knows better and does it."""
    for call in await store.transact(lambda tx: overdue_calls(tx, now, limit=OVERDUE_MAX)):
        monitor = monitors.get(call.server)
        if monitor is not None and monitor.connected:
            continue
        seen_at = await store.transact(partial(server_last_seen, name=call.server))
        ending = unwitnessed(call, call.answered_at, max(seen_at or call.started_at, call.started_at))
        end = Terminate(call.server, call.uniqueid, Witness.SWEEP, ending, leg=call.leg, expired=True)
        metrics.told(Witness.SWEEP, await store.charge(end))


async def expire_messages(store: Store, now: datetime, metrics: Metrics) -> None:
    """End messages whose time ran out; also when `[sms]` names no way any more, for the sake of what they hold."""
    for told in await store.transact(lambda tx: messages.overdue(tx, now, limit=OVERDUE_MAX)):
        tell(_LOG, metrics, await store.charge(told))


async def close_silent(store: Store, reader: Reader, config: Config, now: datetime) -> None:
    """Close sessions of data nobody tells of; also when `[radius]` has no clients any more, for what they hold."""
    before = now - conditions_of(config.radius).silence
    for silence in await reader.read(partial(silent_sessions, heard_before=before, limit=OVERDUE_MAX)):
        closed = await store.charge(silence)
        if closed is not None:
            _LOG.warn("{nas}: session {session!r}: {note}", nas=closed.nas, session=closed.session_id, note=closed.note)


class Comparison:
    """Tells, whenever it changes, which other nodes of this ledger have other settings where all must have the same."""

    _log = Logger()

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._name = f"{socket.gethostname()} {config.agi.listen}"
        self._parts = parts_of(config)
        self._differing: dict[str, list[str]] = {}

    async def __call__(self) -> None:
        """Say that this node is there, and look at the others."""
        now = datetime.now(UTC)
        differing = await self._store.transact(lambda tx: announce(tx, self._name, self._parts, now))
        if differing and differing != self._differing:
            self._log.warn(
                "Other nodes have other settings: {nodes}",
                nodes="; ".join(f"{name}: {', '.join(parts)}" for name, parts in differing.items()),
            )
        elif self._differing and not differing:
            self._log.info("All nodes have the same settings now")
        self._differing = differing


def _reading(config: Config, seconds: float) -> sa.Engine:
    return open_engine(config.database.url, lock_seconds=config.database.lock_seconds, read_seconds=seconds)


def _agi_factory(reactor: Any, config: Config, scripts: Scripts, metrics: Metrics) -> Any:
    if config.agi.library == "starpy":
        return _starpy("fastagi").FastAGIFactory(partial(run, scripts))
    factory = FastAGIFactory(
        scripts,
        clock=reactor,
        environment_seconds=config.agi.idle_seconds,
        command_seconds=config.agi.idle_seconds,
        allow=config.agi.allow,
        connections_max=config.agi.connections_max,
    )
    metrics.agi_sessions.set_function(lambda: factory.connections)
    metrics.agi_sessions_max.set(factory.connections_max)
    return factory


def _login(reactor: Any, config: Config, server: Asterisk) -> Deferred[Any]:
    if config.agi.library == "starpy":
        factory = _starpy("manager").AMIFactory(server.username, server.secret)
        factory.maxRetries = 0  # the monitor connects again, at its own pace
    else:
        factory = AMIFactory(server.username, server.secret, clock=reactor)
    login: Deferred[Any] = factory.login(server.host, server.port)
    return login


def _starpy(module: str) -> Any:
    try:
        __import__(f"starpy.{module}")
    except ImportError:
        raise ConfigError('agi.library: "starpy" is not installed; use "builtin"') from None
    return sys.modules[f"starpy.{module}"]
