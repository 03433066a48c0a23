"""The service that ``twistd celcombiller`` runs, built of its subsystems. Only this module imports all of them."""

from __future__ import annotations

import os
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from twisted.application import strports
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from celcombiller.asterisk.agi.server import FastAGIFactory, run
from celcombiller.asterisk.ami.client import AMIFactory
from celcombiller.asterisk.ami.link import AmiLink
from celcombiller.asterisk.ami.message_sender import AmiCarrier
from celcombiller.asterisk.ami.starpy_manager import StarpyFactory
from celcombiller.asterisk.cdr_evidence import CdrEvidence
from celcombiller.asterisk.live_control.control import LiveControl
from celcombiller.asterisk.outage.control import make_control
from celcombiller.asterisk.outage.recovery import LedgerlessCalls
from celcombiller.asterisk.scripts import Scripts
from celcombiller.asterisk.scripts.selling import KeypadScripts
from celcombiller.asterisk.scripts.sms import SmsScript
from celcombiller.config.charging_policy import charging_policy
from celcombiller.config.settings_in_force import NO_ORIGINS, SettingOrigins
from celcombiller.console.page_process import PageProcess
from celcombiller.console.routes import CONSOLE_ROUTES
from celcombiller.core.catalogue.loading import read_catalogue
from celcombiller.core.charging import messages
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.errors import ConfigError
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications.bundle_notices import BundleNotices
from celcombiller.core.provisioning import desired_state
from celcombiller.core.reconciliation.settlement import PastCatalogue
from celcombiller.core.sms.inbound_message import InboundPart
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.core.text_commands.command_formats import Command, CommandKind, parse_command
from celcombiller.core.text_commands.conversation import Conversation
from celcombiller.core.text_commands.phone_requests import PhoneRequest
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.catalogue_watch import CatalogueWatch
from celcombiller.database.engine import open_engine
from celcombiller.database.health import SERVICE_NAME, check_database
from celcombiller.database.instance_lock import lock_database_file
from celcombiller.database.reader import READ_SECONDS_MAX, Reader
from celcombiller.database.transaction import transact
from celcombiller.http.application import Api
from celcombiller.http.openapi import encode_description
from celcombiller.http.server import make_site
from celcombiller.jobs.bundle_ends import BundleEndService
from celcombiller.jobs.cdr_reconciliation import CdrReconciliation
from celcombiller.jobs.cdr_settings import open_configured_source, reconciliation_terms
from celcombiller.jobs.credit_validity import CreditValidityService
from celcombiller.jobs.day_sums import DaySumService
from celcombiller.jobs.expiry import (
    cancel_credit_transfers,
    close_overdue,
    close_silent,
    expire_messages,
    forget_old_changes,
    forget_phone_commands,
)
from celcombiller.jobs.fee_collection import FeeCollectionService
from celcombiller.jobs.known_subscribers import REFRESH_SECONDS, KnownSubscriberReads
from celcombiller.jobs.ledger_audit import AUDIT_SECONDS_MAX, LedgerAuditService
from celcombiller.jobs.low_balance import LowBalanceService
from celcombiller.jobs.message_parts import LOOK_SECONDS, MessageParts
from celcombiller.jobs.notices import broadcasts
from celcombiller.jobs.notices.spending_notices import notify_spenders
from celcombiller.jobs.schedule_credits import ScheduleCreditService
from celcombiller.jobs.settings_comparison import SettingsComparison
from celcombiller.jobs.sms_outbox import Outbox, OutboxService
from celcombiller.provisioning.factory import kinds_of, network_of
from celcombiller.provisioning.worker import ProvisioningService, ProvisioningWorker
from celcombiller.radius.service import RadiusService
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.credentials.password_hasher import Passwords
from celcombiller.runtime.languages import LANGUAGES, load_language
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
from celcombiller.smpp.inbound import Accepted, Inbox
from celcombiller.smpp.user_data import decoder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa
    from twisted.application.service import IService
    from twisted.internet.defer import Deferred

    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.cdr.source import CdrSource
    from celcombiller.config.tables import Asterisk, Config
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.provisioning.network import Network
    from celcombiller.core.sms.carrier import Carrier
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.inbound_message import InboundMessage
    from celcombiller.core.sms.receipt import DeliveryReceipt

_LOG = Logger()


LINKS_BEGIN_SECONDS = 120.0
"""How many seconds after a start calls wait for their AMI link before they are ended without it."""

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
    origins: SettingOrigins
    binder: Callable[[str], Any]
    worker: int | None
    store: BatchWriter
    reader: Reader
    passwords: Passwords
    metrics: Metrics
    monitors: dict[str, AmiLink]
    control: LiveControl
    scripts: Scripts
    catalogue: CatalogueHolder
    radio_networks: dict[str, Network]
    files: OpenFiles
    lines: PeerLines
    cdr_source: CdrSource | None
    cdrs: CdrEvidence | None
    outage: OutageControl
    commands: Conversation

    @property
    def is_first(self) -> bool:
        """Return whether this process does what only one of several workers does."""
        return self.worker in (None, 1)


def build(
    reactor: Any,
    config: Config,
    binder: Callable[[str], Any] = lambda _section: None,
    origins: SettingOrigins = NO_ORIGINS,
) -> Root:
    """Build all services. Raises a `BillerError` when the database or a setting makes it impossible.

    ``binder`` returns what binds the port of a section in place of the reactor. ``origins``: where the settings are
    from.
    """
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds, application_name=SERVICE_NAME)
    root = Root(lock_database_file(config.database.url))
    check_database(engine)
    parts = _make_parts(reactor, config, origins, binder, engine)
    for service in (
        *_catalogue(parts, engine),
        *_calls(parts),
        *_api(parts),
        *_expiry(parts),
        *_messages(parts),
        *_provisioning(parts),
        *_data(parts),
        *_cdr_reconciliation(parts),
        *_settings_comparison(parts, engine),
        *_schedules(parts),
        *_bundles(parts),
        *_notices(parts),
        *_validity(parts),
        *_day_sums(parts),
        *_observation(parts),
    ):
        service.setServiceParent(root)
    root.store, root.scripts, root.config, root.metrics = parts.store, parts.scripts, config, parts.metrics
    root.threads = (parts.reader, parts.passwords)
    root.journal = parts.outage.journal
    return root


def _make_parts(
    reactor: Any, config: Config, origins: SettingOrigins, binder: Callable[[str], Any], engine: sa.Engine
) -> _Parts:
    policy = charging_policy(config)
    policy.catalogue.current = transact(
        engine, lambda tx: read_catalogue(tx, policy.catalogue.current, partial(datetime.now, UTC))
    )
    worker = prefork.number(os.environ)
    metrics = Metrics(worker=worker)
    outage = make_control(reactor, config, policy.catalogue, metrics)
    process = partial(process_batch, commits=True)
    store = BatchWriter(reactor, engine, lambda tx, requests, now: process(tx, policy, requests, now), metrics)
    reader = Reader(reactor, _open_for_reading(config, READ_SECONDS_MAX))
    monitors: dict[str, AmiLink] = {}
    control = LiveControl(reactor, config.calls, store, reader, monitors, metrics, policy.catalogue, go_on=outage.go_on)
    passwords = Passwords(
        reactor, config.rest.hashes_waiting_max, lambda: metrics.rest.count_limit("hashes_waiting_max")
    )
    metrics.rest.hashes_waiting.set_function(passwords.count_waiting)
    cdr_source = open_configured_source(config)
    for language in LANGUAGES:
        load_language(language)  # so that no transaction waits for a catalogue
    return _Parts(
        cdr_source=cdr_source,
        cdrs=_cdr_evidence(reactor, config, cdr_source),
        reactor=reactor,
        config=config,
        origins=origins,
        binder=binder,
        worker=worker,
        store=store,
        reader=reader,
        passwords=passwords,
        metrics=metrics,
        monitors=monitors,
        control=control,
        catalogue=policy.catalogue,
        scripts=Scripts(reactor, config, store, reader, monitors, metrics, policy.catalogue, control, outage),
        outage=outage,
        commands=Conversation(config.command_rules, store.transact, passwords),
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
            plays_sounds=parts.config.calls.warning_sound != "" or parts.config.calls.hangup_sound != "",
            agi_port=_port_of(parts.config.agi.listen),
            links=parts.monitors,
            cdrs=parts.cdrs,
            complete_end=parts.outage.with_limit,
        )
        parts.monitors[server.name] = monitor
        yield monitor
    yield parts.control
    yield from _outage(parts)
    yield _listen(parts, "agi", with_backlog(parts.config.agi.listen), _agi_factory(parts))


def _outage(parts: _Parts) -> Iterator[IService]:
    """Yield what remembers subscribers for the time without a ledger, and what charges the calls of such a time."""
    control, now = parts.outage, partial(datetime.now, UTC)
    if control.rules.may_allow:
        zone = ZoneInfo(parts.config.schedules.zone)
        reads = KnownSubscriberReads(control.known, parts.reader, zone, now)
        yield PeriodicService(parts.reactor, REFRESH_SECONDS, reads.refresh)
    yield LedgerlessCalls(
        parts.reactor, control, parts.store, parts.monitors, parts.metrics, is_first=parts.is_first, now=now
    )


def _api(parts: _Parts) -> Iterator[IService]:
    """Yield the port of the REST API."""
    encode_description(tuple(ROUTES))  # now, and not while calls wait
    pages = PageProcess(parts.reactor, parts.config) if parts.config.console.own_process else None
    if pages is not None:
        yield pages
    api = Api(
        parts.config,
        parts.store,
        parts.reader,
        parts.passwords,
        parts.monitors,
        parts.metrics,
        (*ROUTES, *CONSOLE_ROUTES) if parts.config.console.enabled else ROUTES,
        parts.radio_networks,
        parts.lines,
        parts.catalogue,
        parts.control,
        parts.outage,
        parts.origins,
        pages,
    )

    def calls_wait() -> bool:
        return parts.store.is_charging or parts.scripts.awaits_answers()

    site = make_site(api, parts.reactor, parts.files.rest, calls_wait)
    yield _listen(parts, "rest", parts.config.rest.listen, site)


def _expiry(parts: _Parts) -> Iterator[IService]:
    """Yield what closes overdue calls, expired messages and data sessions without a report."""
    steps, began = ClockSteps(), time.monotonic()

    async def end_calls() -> None:
        now, links_begin = datetime.now(UTC), time.monotonic() - began < LINKS_BEGIN_SECONDS
        steps.look(now, time.monotonic())
        seen = (parts.metrics, steps.excess_age, parts.cdrs)
        await close_overdue(parts.store, parts.monitors, now, *seen, links_begin=links_begin)

    for close in (  # each by itself: a fault in one kind must not stop the others
        end_calls,
        lambda: forget_old_changes(parts.store, datetime.now(UTC)),
        lambda: forget_phone_commands(parts.store, datetime.now(UTC)),
        lambda: cancel_credit_transfers(parts.store, datetime.now(UTC)),
        lambda: expire_messages(parts.store, datetime.now(UTC), parts.metrics),
        lambda: close_silent(parts.store, parts.reader, parts.config, datetime.now(UTC)),
    ):
        yield PeriodicService(parts.reactor, EXPIRY_SECONDS, close)


def _messages(parts: _Parts) -> Iterator[IService]:
    """Yield the SMSC link and an outbox for each route in use, and let phones send by the ``sms`` script."""
    config, store = parts.config, parts.store
    keypad = KeypadScripts(config, parts.commands, parts.scripts.servers, parts.scripts.updates, parts.metrics)
    parts.scripts.add_keypad(keypad)
    if not config.sms.ways:
        return
    carriers: dict[Route, Carrier] = {}
    if Route.ASTERISK in config.sms.ways:
        carriers[Route.ASTERISK] = AmiCarrier(config, parts.monitors)
    if Route.SMPP in config.sms.ways:
        smsc, long_messages = _smsc_client(parts)
        yield smsc
        yield PeriodicService(parts.reactor, LOOK_SECONDS, lambda: long_messages.join_overdue(datetime.now(UTC)))
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
    parts.scripts.add_sms(SmsScript(config, store, parts.scripts.updates, parts.metrics, parts.commands))


def _smsc_client(parts: _Parts) -> tuple[SmscClient, MessageParts]:
    """Return the link to the SMSC, and what joins the long messages that it brings."""
    store, terms = parts.store, parts.config.message_policy
    long_messages = MessageParts(
        store,
        terms,
        lambda coding, data: decoder_of(coding, terms.smsc_alphabet)(data),
        parts.config.smpp.parts_wait_seconds,
        parts.metrics.messages.incomplete.inc,
    )

    zone = ZoneInfo(parts.config.schedules.zone)

    async def apply(receipt: DeliveryReceipt, now: datetime) -> MessageResult | None:
        result = await store.transact(lambda tx: messages.apply_receipt(tx, receipt, now, zone))
        if result is not None:
            log_message_outcome(_LOG, parts.metrics, result)
        return result

    commands = parts.config.text_commands.service_codes if parts.config.text_commands.over_smpp else frozenset()

    async def accept(arrival: InboundMessage | InboundPart, now: datetime) -> Accepted:
        if plain_number(arrival.to_number) in commands:
            return await _serve_command(parts, arrival, now)
        if isinstance(arrival, InboundPart):
            is_new, is_queued = await long_messages.accept(arrival, now)
            return Accepted.QUEUED if is_queued else Accepted.KEPT if is_new else Accepted.KNOWN
        result = await store.transact(lambda tx: messages.accept_inbound(tx, terms, arrival, now))
        return Accepted.QUEUED if result.first else Accepted.KNOWN

    to_phones = accept if terms.on_net_route is Route.ASTERISK or commands else None
    client = SmscClient(parts.reactor, parts.config.smpp, Inbox(apply, to_phones, terms.smsc_alphabet))
    return client, long_messages


async def _serve_command(parts: _Parts, message: InboundMessage | InboundPart, now: datetime) -> Accepted:
    """Do what a message to a service code asks for. One in parts is no command, and none of it is kept."""
    number = plain_number(message.to_number)
    if isinstance(message, InboundPart):
        if message.number > 1:
            return Accepted.KNOWN
        key, command = "", Command(CommandKind.UNKNOWN)
    else:
        key, command = message.network_id, parse_command(parts.commands.rules.formats, number, message.text)
    request = PhoneRequest(
        way="smpp",
        key=key or secrets.token_hex(16),
        has_key=bool(key),
        command=command,
        account_code="",
        from_number=message.from_number,
        is_trusted=True,
        service_code=number,
        random=secrets.token_hex(16),
    )
    answered = await parts.commands.serve(request, now)
    parts.metrics.messages.count_command("smpp", command.kind, answered.result, is_new=answered.is_new)
    return Accepted.QUEUED if answered.is_new else Accepted.KNOWN


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


def _cdr_reconciliation(parts: _Parts) -> Iterator[IService]:
    """Yield what compares Asterisk's new call detail records with the ledger, where their source is configured."""
    cdr = parts.config.cdr
    if parts.cdr_source is None or not parts.is_first:
        return
    look = CdrReconciliation(
        parts.cdr_source,
        reconciliation_terms(parts.config, parts.cdr_source.label),
        PastCatalogue(charging_policy(parts.config, parts.catalogue)),
        settle=cdr.settle,
        transact=parts.store.transact,
        read=parts.reader.read,
        in_thread=partial(deferToThreadPool, parts.reactor, parts.reactor.getThreadPool()),
        now=partial(datetime.now, UTC),
        metrics=parts.metrics,
    )
    yield PeriodicService(parts.reactor, float(cdr.every_seconds), look)


def _cdr_evidence(reactor: Any, config: Config, source: CdrSource | None) -> CdrEvidence | None:
    """Return what finds Asterisk's records of calls whose end no witness saw."""
    if source is None:
        return None
    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    return CdrEvidence(config.cdr_server, source, in_thread, partial(datetime.now, UTC))


def _settings_comparison(parts: _Parts, engine: sa.Engine) -> Iterator[IService]:
    """Yield what announces this node and compares its settings with those of the others, where several can be."""
    if engine.dialect.name != "sqlite":
        yield PeriodicService(parts.reactor, NODES_SECONDS, SettingsComparison(parts.store, parts.config))


def _schedules(parts: _Parts) -> Iterator[IService]:
    """Yield the services of scheduled credits and of fees."""
    rules, now = parts.config.schedules.rules, partial(datetime.now, UTC)
    yield ScheduleCreditService(parts.reactor, parts.store.transact, rules, now, parts.metrics)
    yield FeeCollectionService(
        parts.reactor,
        parts.config.fee_notices,
        rules.run_at,
        transact=parts.store.transact,
        read=parts.reader.read,
        now=now,
        metrics=parts.metrics,
    )


def _bundles(parts: _Parts) -> Iterator[IService]:
    """Yield what ends bundles and buys them again."""
    config = parts.config
    yield BundleEndService(
        parts.reactor,
        BundleNotices(config.phone_text("notices.not_renewed"), config.message_policy),
        config.schedules.zone,
        transact=parts.store.transact,
        now=partial(datetime.now, UTC),
        metrics=parts.metrics,
    )


def _notices(parts: _Parts) -> Iterator[IService]:
    """Yield what queues broadcasts, and what looks for low balances and spending, if subscribers get such notices."""
    if parts.is_first:
        store, read, policy = parts.store, parts.reader.read, parts.config.message_policy
        advance = partial(broadcasts.advance_broadcasts, store.transact, read, policy)
        yield PeriodicService(parts.reactor, broadcasts.LOOK_SECONDS, lambda: advance(datetime.now(UTC)))
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


def _validity(parts: _Parts) -> Iterator[IService]:
    """Yield what ends credit some days after the last top-up, or ends that."""
    if parts.is_first:
        yield CreditValidityService(
            parts.reactor,
            parts.config.validity_terms,
            parts.config.balance.style,
            parts.config.message_policy,
            transact=parts.store.transact,
            read=parts.reader.read,
            now=partial(datetime.now, UTC),
            metrics=parts.metrics,
        )


def _day_sums(parts: _Parts) -> Iterator[IService]:
    """Yield what adds up transfers by day."""
    if parts.is_first:
        zone, store = ZoneInfo(parts.config.schedules.zone), parts.store
        yield DaySumService(parts.reactor, zone, transact=store.transact, read=parts.reader.read)


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
    parts.scripts.awaits_answers = lambda: factory.answers_awaited > 0
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
