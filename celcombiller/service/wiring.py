"""The service that ``twistd celcombiller`` runs, built of its subsystems. Only this module imports all of them."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from twisted.application import strports
from twisted.logger import Logger

from celcombiller.asterisk.agi.server import FastAGIFactory, run
from celcombiller.asterisk.ami.client import AMIFactory
from celcombiller.asterisk.ami.link import AmiLink
from celcombiller.asterisk.ami.message_sender import AmiCarrier
from celcombiller.asterisk.ami.starpy_manager import StarpyFactory
from celcombiller.asterisk.scripts import Scripts
from celcombiller.asterisk.scripts.sms import SmsScript
from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.catalogue.loading import read_catalogue
from celcombiller.core.charging import messages
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.errors import ConfigError
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications.bundle_notices import BundleNotices
from celcombiller.core.provisioning import desired_state
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.catalogue_watch import CatalogueWatch
from celcombiller.database.engine import open_engine
from celcombiller.database.health import SERVICE_NAME, check_database
from celcombiller.database.instance_lock import lock_database_file
from celcombiller.database.reader import READ_SECONDS_MAX, Reader
from celcombiller.database.transaction import transact
from celcombiller.http.application import Api
from celcombiller.http.server import make_site
from celcombiller.jobs.bundle_ends import BundleEndService
from celcombiller.jobs.expiry import close_overdue, close_silent, expire_messages
from celcombiller.jobs.ledger_audit import AUDIT_SECONDS_MAX, LedgerAuditService
from celcombiller.jobs.low_balance import LowBalanceService
from celcombiller.jobs.schedule_credits import ScheduleCreditService
from celcombiller.jobs.settings_comparison import SettingsComparison
from celcombiller.jobs.sms_outbox import Outbox, OutboxService
from celcombiller.jobs.spending_notices import notify_spenders
from celcombiller.provisioning.factory import kinds_of, network_of
from celcombiller.provisioning.worker import ProvisioningService, ProvisioningWorker
from celcombiller.radius.service import RadiusService
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.credentials.password_hasher import Passwords
from celcombiller.runtime.log.charging import log_message_outcome
from celcombiller.runtime.log.peer_lines import PeerLines
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.periodic import PeriodicService
from celcombiller.runtime.process import prefork
from celcombiller.runtime.process.open_files import OpenFiles, find_limit, share_files
from celcombiller.runtime.process.reactor_delay import ReactorDelay
from celcombiller.runtime.timers.clock_steps import ClockSteps
from celcombiller.service.root import Root
from celcombiller.smpp.client import SmscClient
from celcombiller.smpp.inbound import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa
    from twisted.application.service import IService
    from twisted.internet.defer import Deferred

    from celcombiller.config.tables import Asterisk, Config
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.provisioning.network import Network
    from celcombiller.core.sms import inbound_message
    from celcombiller.core.sms.carrier import Carrier
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.receipt import DeliveryReceipt

_LOG = Logger()


EXPIRY_SECONDS = 60.0
"""The interval between two looks for expired holds and messages, and for data sessions without a report."""


NODES_SECONDS = 15.0
"""The interval between two announcements of a node, where there can be several."""


SPENDING_SECONDS = 60.0
"""The interval between two looks for accounts that have spent a share of their limits."""


AGI_BACKLOG = 4096
"""Connections that may wait to be accepted: the most that Linux allows. Twisted's 50 are too few for a burst of calls,
and a connection that finds no place is tried again only after a second."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the subsystems share. ``binder`` returns what binds the port of a section in place of the reactor."""

    reactor: Any
    config: Config
    binder: Callable[[str], Any]
    worker: int | None
    store: BatchWriter
    reader: Reader
    passwords: Passwords
    metrics: Metrics
    monitors: dict[str, AmiLink]
    scripts: Scripts
    catalogue: CatalogueHolder
    radio_networks: dict[str, Network]
    files: OpenFiles
    lines: PeerLines

    @property
    def is_first(self) -> bool:
        """Return whether this process does what only one of several workers does."""
        return self.worker in (None, 1)


def build(reactor: Any, config: Config, binder: Callable[[str], Any] = lambda _section: None) -> Root:
    """Build all services. Raises a `BillerError` when the database or a setting makes it impossible.

    ``binder`` returns what binds the port of a section in place of the reactor.
    """
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds, application_name=SERVICE_NAME)
    root = Root(lock_database_file(config.database.url))
    check_database(engine)
    parts = _make_parts(reactor, config, binder, engine)
    for service in (
        *_catalogue(parts, engine),
        *_calls(parts),
        *_api(parts),
        *_expiry(parts),
        *_messages(parts),
        *_provisioning(parts),
        *_data(parts),
        *_settings_comparison(parts, engine),
        *_schedules(parts),
        *_bundles(parts),
        *_notices(parts),
        *_observation(parts),
    ):
        service.setServiceParent(root)
    root.store, root.scripts, root.config, root.metrics = parts.store, parts.scripts, config, parts.metrics
    root.threads = (parts.reader, parts.passwords)
    return root


def _make_parts(reactor: Any, config: Config, binder: Callable[[str], Any], engine: sa.Engine) -> _Parts:
    policy = charging_policy(config)
    policy.catalogue.current = transact(
        engine, lambda tx: read_catalogue(tx, policy.catalogue.current, partial(datetime.now, UTC))
    )
    worker = prefork.number(os.environ)
    metrics = Metrics(worker=worker)
    store = BatchWriter(reactor, engine, lambda tx, requests, now: process_batch(tx, policy, requests, now), metrics)
    reader = Reader(reactor, _open_for_reading(config, READ_SECONDS_MAX))
    monitors: dict[str, AmiLink] = {}
    passwords = Passwords(
        reactor, config.rest.hashes_waiting_max, lambda: metrics.rest.count_limit("hashes_waiting_max")
    )
    metrics.rest.hashes_waiting.set_function(passwords.count_waiting)
    return _Parts(
        reactor=reactor,
        config=config,
        binder=binder,
        worker=worker,
        store=store,
        reader=reader,
        passwords=passwords,
        metrics=metrics,
        monitors=monitors,
        catalogue=policy.catalogue,
        scripts=Scripts(reactor, config, store, reader, monitors, metrics, policy.catalogue),
        radio_networks=_radio_networks(reactor, config, engine),
        lines=PeerLines(reactor.seconds, config.service.log_lines_per_peer, metrics.suppressed_log_lines.inc),
        files=share_files(find_limit(), rest=config.rest.connections_max, agi=config.agi.connections_max),
    )


# -- one function a subsystem, which returns its services ------------------------------------------------------------


def _catalogue(parts: _Parts, engine: sa.Engine) -> Iterator[IService]:
    """Yield what reads tariffs, groups, trunks, routes and offers again when they change."""
    listening = engine if engine.dialect.name == "postgresql" else None
    yield CatalogueWatch(parts.reactor, parts.reader, parts.catalogue, parts.metrics, listening)


def _calls(parts: _Parts) -> Iterator[IService]:
    """Yield a monitor for each Asterisk server, and the FastAGI port."""
    for server in parts.config.asterisk:
        login = partial(_login, parts.reactor, parts.config, server)
        monitor = AmiLink(
            parts.reactor,
            server.name,
            login,
            parts.store,
            parts.metrics,
            sends_messages=Route.ASTERISK in parts.config.sms.ways,
            agi_port=_port_of(parts.config.agi.listen),
            links=parts.monitors,
        )
        parts.monitors[server.name] = monitor
        yield monitor
    yield _listen(parts, "agi", with_backlog(parts.config.agi.listen), _agi_factory(parts))


def _api(parts: _Parts) -> Iterator[IService]:
    """Yield the port of the REST API."""
    api = Api(
        parts.config,
        parts.store,
        parts.reader,
        parts.passwords,
        parts.monitors,
        parts.metrics,
        ROUTES,
        parts.radio_networks,
        parts.lines,
        parts.catalogue,
    )
    yield _listen(parts, "rest", parts.config.rest.listen, make_site(api, parts.reactor, parts.files.rest))


def _expiry(parts: _Parts) -> Iterator[IService]:
    """Yield what closes overdue calls, expired messages and data sessions without a report."""
    steps = ClockSteps()

    async def end_calls() -> None:
        now = datetime.now(UTC)
        steps.look(now, time.monotonic())
        await close_overdue(parts.store, parts.monitors, now, parts.metrics, steps.excess_age)

    for close in (  # each by itself: a fault in one kind must not stop the others
        end_calls,
        lambda: expire_messages(parts.store, datetime.now(UTC), parts.metrics),
        lambda: close_silent(parts.store, parts.reader, parts.config, datetime.now(UTC)),
    ):
        yield PeriodicService(parts.reactor, EXPIRY_SECONDS, close)


def _messages(parts: _Parts) -> Iterator[IService]:
    """Yield the SMSC link and an outbox for each route in use, and let phones send by the ``sms`` script."""
    config, store = parts.config, parts.store
    if not config.sms.ways:
        return
    carriers: dict[Route, Carrier] = {}
    if Route.ASTERISK in config.sms.ways:
        carriers[Route.ASTERISK] = AmiCarrier(config, parts.monitors)
    if Route.SMPP in config.sms.ways:
        smsc = _smsc_client(parts)
        yield smsc
        carriers[Route.SMPP] = smsc
    for route, carrier in carriers.items():
        outbox = Outbox(
            parts.reactor,
            route,
            carrier,
            transact=store.transact,
            read=parts.reader.read,
            charge=store.charge,
            now=partial(datetime.now, UTC),
            retry_seconds_max=config.sms.retry_seconds_max,
            metrics=parts.metrics,
        )
        yield OutboxService(parts.reactor, outbox)
    parts.scripts.add_sms(SmsScript(config, store, parts.scripts.updates, parts.metrics))


def _smsc_client(parts: _Parts) -> SmscClient:
    store, terms = parts.store, parts.config.message_policy

    zone = ZoneInfo(parts.config.schedules.zone)

    async def apply(receipt: DeliveryReceipt, now: datetime) -> MessageResult | None:
        result = await store.transact(lambda tx: messages.apply_receipt(tx, receipt, now, zone))
        if result is not None:
            log_message_outcome(_LOG, parts.metrics, result)
        return result

    async def accept(arrival: inbound_message.InboundMessage, now: datetime) -> MessageResult:
        return await store.transact(lambda tx: messages.accept_inbound(tx, terms, arrival, now))

    to_phones = accept if terms.on_net_route is Route.ASTERISK else None
    return SmscClient(parts.reactor, parts.config.smpp, Inbox(apply, to_phones, terms.smsc_alphabet))


def _provisioning(parts: _Parts) -> Iterator[IService]:
    """Yield a worker for each radio network."""
    for each in parts.config.provisioning:
        if each.name in parts.radio_networks:
            worker = ProvisioningWorker(
                each.name,
                parts.radio_networks[each.name],
                transact=parts.store.transact,
                read=parts.reader.read,
                now=partial(datetime.now, UTC),
                retry_seconds_max=each.retry_seconds_max,
            )
            yield ProvisioningService(parts.reactor, worker)


def _data(parts: _Parts) -> Iterator[IService]:
    """Yield the RADIUS server, where a NAS is configured."""
    radius = parts.config.radius
    if radius.clients and parts.is_first:
        yield RadiusService(
            parts.reactor, radius, parts.store, parts.reader, parts.passwords, parts.catalogue, parts.metrics
        )


def _settings_comparison(parts: _Parts, engine: sa.Engine) -> Iterator[IService]:
    """Yield what announces this node and compares its settings with those of the others, where several can be."""
    if engine.dialect.name != "sqlite":
        yield PeriodicService(parts.reactor, NODES_SECONDS, SettingsComparison(parts.store, parts.config))


def _schedules(parts: _Parts) -> Iterator[IService]:
    """Yield the service of scheduled credits."""
    rules, now = parts.config.schedules.rules, partial(datetime.now, UTC)
    yield ScheduleCreditService(parts.reactor, parts.store.transact, rules, now, parts.metrics)


def _bundles(parts: _Parts) -> Iterator[IService]:
    """Yield what ends bundles and buys them again."""
    config = parts.config
    yield BundleEndService(
        parts.reactor,
        BundleNotices(config.notices.not_renewed, config.message_policy),
        config.schedules.zone,
        transact=parts.store.transact,
        now=partial(datetime.now, UTC),
        metrics=parts.metrics,
    )


def _notices(parts: _Parts) -> Iterator[IService]:
    """Yield what looks for low balances and for spending near its limit, if subscribers get notices."""
    if parts.config.notices.spending_share and parts.is_first:
        look = partial(notify_spenders, parts.store.transact, parts.config)
        yield PeriodicService(parts.reactor, SPENDING_SECONDS, lambda: look(datetime.now(UTC)))
    if parts.config.notices.thresholds and parts.is_first:
        yield LowBalanceService(
            parts.reactor,
            parts.config.notice_rules,
            parts.config.message_policy,
            transact=parts.store.transact,
            read=parts.reader.read,
            now=partial(datetime.now, UTC),
            metrics=parts.metrics,
        )


def _observation(parts: _Parts) -> Iterator[IService]:
    """Yield what measures the reactor's delay, and the periodic audit."""
    yield ReactorDelay(parts.reactor, parts.metrics)
    hours = parts.config.metrics.audit_hours
    if hours and parts.is_first:
        engine = _open_for_reading(parts.config, AUDIT_SECONDS_MAX)
        yield LedgerAuditService(parts.reactor, engine, hours, parts.metrics)


# -- what they are made of -------------------------------------------------------------------------------------------


def _listen(parts: _Parts, section: str, listen: str, factory: Any) -> IService:
    try:
        service: IService = strports.service(listen, factory, parts.binder(section))
    except ValueError as error:
        raise ConfigError(f"{section}.listen: {listen!r} is no endpoint: {error}") from None
    service.setName(section)
    return service


def _port_of(listen: str) -> int | None:
    """Return the TCP port of an endpoint; ``None``: another kind, or one that the system chooses."""
    kind, _, rest = listen.partition(":")
    return (int(rest.partition(":")[0]) or None) if kind in ("tcp", "tcp6") else None


def with_backlog(listen: str) -> str:
    """Return the endpoint with `AGI_BACKLOG`, where it has no backlog of its own."""
    return f"{listen}:backlog={AGI_BACKLOG}" if listen.startswith("tcp") and "backlog=" not in listen else listen


def _radio_networks(reactor: Any, config: Config, engine: sa.Engine) -> dict[str, Network]:
    """Return the radio networks of the settings, after entering them in the database."""
    kinds = kinds_of(config)
    if kinds:
        transact(engine, partial(desired_state.configure, kinds=kinds, now=datetime.now(UTC)))
    return {each.name: network_of(reactor, each) for each in config.provisioning if each.name in kinds}


def _open_for_reading(config: Config, seconds: float) -> sa.Engine:
    return open_engine(config.database.url, lock_seconds=config.database.lock_seconds, read_seconds=seconds)


def _agi_factory(parts: _Parts) -> Any:
    agi = parts.config.agi
    if agi.library == "starpy":
        return _starpy("fastagi").FastAGIFactory(partial(run, parts.scripts))
    factory = FastAGIFactory(
        parts.scripts,
        clock=parts.reactor,
        environment_seconds=agi.idle_seconds,
        command_seconds=agi.idle_seconds,
        allow=agi.allow,
        connections_max=parts.files.agi,
        connections_per_address_max=_per_address(parts),
        count_limit=parts.metrics.calls.count_limit,
        lines=parts.lines,
    )
    parts.metrics.calls.agi_sessions.set_function(lambda: factory.connections)
    parts.metrics.calls.agi_sessions_max.set(factory.connections_max)
    return factory


def _per_address(parts: _Parts) -> int:
    """Return how many AGI sessions one address may have, at most what there may be in all."""
    in_all = parts.files.agi
    default = in_all if len(parts.config.asterisk) <= 1 else max(1, in_all * 3 // 4)
    return min(in_all, parts.config.agi.connections_per_address_max or default)


def _login(reactor: Any, config: Config, server: Asterisk) -> Deferred[Any]:
    ours = AMIFactory(server.username, server.secret, clock=reactor)
    if config.agi.library == "builtin":
        return ours.login(server.host, server.port)
    starpys = _starpy("manager").AMIFactory(server.username, server.secret)
    return StarpyFactory(starpys, ours).login(server.host, server.port)


def _starpy(module: str) -> Any:
    try:
        __import__(f"starpy.{module}")
    except ImportError:
        raise ConfigError('agi.library: "starpy" is not installed; use "builtin"') from None
    return sys.modules[f"starpy.{module}"]
