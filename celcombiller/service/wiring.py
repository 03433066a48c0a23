"""The service that ``twistd celcombiller`` runs: the only file that sees everything."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application import strports
from twisted.logger import Logger

from celcombiller.asterisk.agi_server import FastAGIFactory, run
from celcombiller.asterisk.ami_client import AMIFactory
from celcombiller.asterisk.call_monitor import CallMonitor
from celcombiller.asterisk.message_sender import AmiCarrier
from celcombiller.asterisk.scripts import Scripts
from celcombiller.asterisk.sms_script import SmsScript
from celcombiller.core.charging import messages
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import ConfigError
from celcombiller.core.model.calls import Rate
from celcombiller.core.model.messages import Route
from celcombiller.core.provisioning import desired_state
from celcombiller.core.rating import Tariff
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.engine import open_engine
from celcombiller.database.health import check_database
from celcombiller.database.reader import READ_SECONDS_MAX, Reader
from celcombiller.database.transaction import transact
from celcombiller.http.application import Api
from celcombiller.http.server import make_site
from celcombiller.jobs.expiry import close_overdue, close_silent, expire_messages
from celcombiller.jobs.ledger_audit import AUDIT_SECONDS_MAX, LedgerAuditService
from celcombiller.jobs.low_balance import LowBalanceService
from celcombiller.jobs.schedule_credits import ScheduleCreditService
from celcombiller.jobs.settings_comparison import SettingsComparison
from celcombiller.jobs.sms_outbox import Outbox, OutboxService
from celcombiller.provisioning.factory import kinds_of, network_of
from celcombiller.provisioning.worker import ProvisioningService, ProvisioningWorker
from celcombiller.radius.service import RadiusService
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime import prefork
from celcombiller.runtime.charging_log import log_message_outcome
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.password_hasher import Passwords
from celcombiller.runtime.periodic import PeriodicService
from celcombiller.runtime.reactor_delay import ReactorDelay
from celcombiller.service.instance_lock import lock_database_file
from celcombiller.service.root import Root
from celcombiller.smpp.client import SmscClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import sqlalchemy as sa
    from twisted.internet.defer import Deferred

    from celcombiller.config.tables import Asterisk, Config
    from celcombiller.core.model.messages import MessageState
    from celcombiller.core.provisioning.network import Network
    from celcombiller.core.sms import inbound_message
    from celcombiller.core.sms.carrier import Carrier
    from celcombiller.core.sms.charging import MessageResult

_LOG = Logger()


OVERDUE_SECONDS = 60.0
"""How often it is looked for holds whose validity has run out, and for sessions of data that nobody tells of."""


NODES_SECONDS = 15.0
"""How often a node says that it is there, where several can be."""


AGI_BACKLOG = 4096
"""Connections that may wait to be taken, as many as Linux allows: of a burst of calls Twisted's own 50 would be few,
and one that finds no place tries again after a whole second."""


def build(reactor: Any, config: Config, binder: Callable[[str], Any] = lambda _section: None) -> Root:
    """Wire everything. Raises a `BillerError` when the database or a setting makes it impossible.

    ``binder`` gives what binds the port of a section in place of the reactor.
    """
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    root = Root(lock_database_file(config.database.url))
    check_database(engine)
    terms = charging_policy(config)
    worker = prefork.number(os.environ)
    metrics = Metrics(worker=worker)
    store = BatchWriter(reactor, engine, lambda tx, requests, now: process_batch(tx, terms, requests, now), metrics)
    reader, passwords = Reader(reactor, _reading(config, READ_SECONDS_MAX)), Passwords(reactor)
    monitors: dict[str, CallMonitor] = {}
    radio = _radio_networks(reactor, config, engine)
    scripts = Scripts(reactor, config, store, reader, monitors, metrics)
    for server in config.asterisk:
        monitor = CallMonitor(reactor, server.name, partial(_login, reactor, config, server), store, metrics)
        monitors[server.name] = monitor
        monitor.setServiceParent(root)
    for section, listen, factory in (
        ("agi", with_backlog(config.agi.listen), _agi_factory(reactor, config, scripts, metrics)),
        (
            "rest",
            config.rest.listen,
            make_site(Api(config, store, reader, passwords, monitors, metrics, ROUTES, radio)),
        ),
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
        scripts.take_texts(SmsScript(config, store, scripts.settling, metrics))
    _provision(reactor, config, root, store, reader, radio)
    if config.radius.clients and worker in (None, 1):
        RadiusService(reactor, config.radius, store, reader, passwords, metrics).setServiceParent(root)
    if engine.dialect.name != "sqlite":
        PeriodicService(reactor, NODES_SECONDS, SettingsComparison(store, config)).setServiceParent(root)
    rules = config.schedules.rules
    ScheduleCreditService(reactor, store.transact, rules, partial(datetime.now, UTC), metrics).setServiceParent(root)
    _notice_low_balances(root, reactor, config, store, reader, metrics)
    ReactorDelay(reactor, metrics).setServiceParent(root)
    if config.metrics.audit_hours and worker in (None, 1):
        auditing = _reading(config, AUDIT_SECONDS_MAX)
        LedgerAuditService(reactor, auditing, config.metrics.audit_hours, metrics).setServiceParent(root)
    root.store, root.scripts, root.config, root.metrics = store, scripts, config, metrics
    root.threads = (reader, passwords)
    return root


def with_backlog(listen: str) -> str:
    """Return the endpoint with the AGI backlog, where it says none."""
    return f"{listen}:backlog={AGI_BACKLOG}" if listen.startswith("tcp") and "backlog=" not in listen else listen


def charging_policy(config: Config) -> ChargingPolicy:
    """Return the operator's conditions that charging needs."""
    return ChargingPolicy(
        tariff=Tariff(
            Rate(row.prefix, row.name, row.connect_fee, row.price, row.increment_seconds) for row in config.rates
        ),
        ring_seconds=config.calls.ring_seconds,
        max_call_seconds=config.calls.max_call_seconds,
        external=config.calls.external_dial != "",
        messages=config.sms.terms,
    )


def _radio_networks(reactor: Any, config: Config, engine: sa.Engine) -> dict[str, Network]:
    """Return the networks of the settings, after the database knows them too."""
    kinds = kinds_of(config)
    if kinds:
        transact(engine, partial(desired_state.configure, kinds=kinds, now=datetime.now(UTC)))
    return {each.name: network_of(reactor, each) for each in config.provisioning if each.name in kinds}


def _send_messages(
    reactor: Any,
    config: Config,
    root: Root,
    store: BatchWriter,
    reader: Reader,
    monitors: Mapping[str, CallMonitor],
    metrics: Metrics,
) -> None:
    """Have the queue of each way that is used worked by what carries messages there."""
    carriers: dict[Route, Carrier] = {}
    if Route.ASTERISK in config.sms.ways:
        carriers[Route.ASTERISK] = AmiCarrier(config, monitors)
    if Route.SMPP in config.sms.ways:

        async def receive(network_id: str, outcome: MessageState, note: str, now: datetime) -> MessageResult | None:
            posting = await store.transact(lambda tx: messages.apply_receipt(tx, network_id, outcome, note, now))
            if posting is not None:
                log_message_outcome(_LOG, metrics, posting)
            return posting

        async def arrive(arrival: inbound_message.InboundMessage, now: datetime) -> MessageResult:
            return await store.transact(lambda tx: messages.accept_inbound(tx, config.sms.terms, arrival, now))

        to_phones = arrive if config.sms.terms.on_net_route is Route.ASTERISK else None
        centre = SmscClient(reactor, config.smpp, receive, to_phones)
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
    reactor: Any, config: Config, root: Root, store: BatchWriter, reader: Reader, radio: Mapping[str, Network]
) -> None:
    """Have each radio network brought to what it should know."""
    for each in config.provisioning:
        if each.name in radio:
            provisioner = ProvisioningWorker(
                each.name,
                radio[each.name],
                transact=store.transact,
                read=reader.read,
                now=partial(datetime.now, UTC),
                retry_seconds_max=each.retry_seconds_max,
            )
            ProvisioningService(reactor, provisioner).setServiceParent(root)


def _notice_low_balances(
    root: Root, reactor: Any, config: Config, store: BatchWriter, reader: Reader, metrics: Metrics
) -> None:
    """Have somebody look for them, if anybody is to be told; of several workers the first."""
    if config.notices.thresholds and prefork.number(os.environ) in (None, 1):
        LowBalanceService(
            reactor,
            config.notice_rules,
            config.sms.terms,
            transact=store.transact,
            read=reader.read,
            now=partial(datetime.now, UTC),
            metrics=metrics,
        ).setServiceParent(root)


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
    metrics.calls.agi_sessions.set_function(lambda: factory.connections)
    metrics.calls.agi_sessions_max.set(factory.connections_max)
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
