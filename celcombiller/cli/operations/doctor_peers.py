"""The part of ``celcombiller doctor`` that talks with Asterisk, the radio networks and the SMSC, by the reactor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from smpplib.consts import SMPP_ESME_RALYBND, SMPP_ESME_RBINDFAIL, SMPP_ESME_RINVPASWD, SMPP_ESME_RINVSYSID
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectError
from twisted.internet.task import react

from celcombiller.asterisk.ami.client import AMIFactory
from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.ami.probe import NO_EVENTS, probe
from celcombiller.cli.exit_status import DONE
from celcombiller.cli.operations.findings import ANSWER_SECONDS, CLOCK_SKEW, Finding
from celcombiller.core.errors import BillerError
from celcombiller.core.model.messages import Route
from celcombiller.provisioning.factory import network_of
from celcombiller.runtime import tls_trust
from celcombiller.smpp.client import SingleConnection, smsc_endpoint
from celcombiller.smpp.connection import BindRefused, SmppConnection
from celcombiller.smpp.inbound import TEMPORARY_ERROR
from celcombiller.smpp.session import PAIR, TRANSCEIVER, SmscSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from celcombiller.config.tables import Asterisk, Config, RadioNetwork, Smpp


def examine_peers(config: Config, *, binds: bool = False) -> list[Finding]:
    """Log in to each Asterisk server, ask each radio network, and bind to the SMSC; return what was found."""
    found: list[Finding] = []
    names: dict[str, tuple[str, str | None]] = {}

    async def run(reactor: Any) -> None:
        for server in config.asterisk:
            found.extend(await _examine_asterisk(reactor, config, server, names))
        used = [each for each in config.provisioning if each.kind != "none"]
        found.extend([await _examine_network(reactor, network) for network in used])
        if binds:
            found.append(await _examine_smsc(reactor, config.smpp))

    try:
        react(lambda reactor: Deferred.fromCoroutine(run(reactor)))
    except SystemExit as over:
        if over.code not in (None, DONE):
            raise
    return [*found, *_lookalikes(names)]


def _lookalikes(names: dict[str, tuple[str, str | None]]) -> Iterator[Finding]:
    """Yield a finding for each server whose calls cannot be told from those of one before it."""
    first: dict[tuple[str, str | None], str] = {}
    for name, told_by in names.items():
        other = first.setdefault(told_by, name)
        if other != name and told_by[1] is not None:
            yield Finding(
                f"asterisk {name}",
                f"it has the address and the systemname {told_by[1]!r} of {other}",
                "set another systemname in asterisk.conf",
            )


async def _examine_asterisk(
    reactor: Any, config: Config, server: Asterisk, names: dict[str, tuple[str, str | None]]
) -> list[Finding]:
    subject, place = f"asterisk {server.name}", f"{server.host}:{server.port}"
    try:
        login = AMIFactory(server.username, server.secret, clock=reactor).login(server.host, server.port)
        ami = await _in_time(login, reactor)
    except AmiRefused as error:
        remedy = "the name and the secret are those of a section of manager.conf, whose permit= lets this machine in"
        return [Finding(subject, f"AMI at {place} refuses the login of {server.username}: {error}", remedy)]
    except (ConnectError, OSError, TimeoutError, BillerError) as error:
        remedy = "is it started, does manager.conf have enabled=yes, and does the firewall let the port through?"
        return [Finding(subject, f"AMI at {place} does not answer: {error}", remedy)]
    try:
        probed = await _in_time(
            Deferred.fromCoroutine(probe(ami, sends_messages=Route.ASTERISK in config.sms.ways)), reactor
        )
        clock = await _examine_clock(reactor, subject, ami)
    except (TimeoutError, BillerError) as error:
        return [Finding(subject, f"AMI at {place}: {error or type(error).__name__}", "look at the log of Asterisk")]
    finally:
        ami.transport.loseConnection()
    said = [*probed.faults, *([] if getattr(ami, "fullyBooted", True) else [NO_EVENTS])]
    faults = [Finding(subject, "what its AMI link cannot do", fault) for fault in said]
    names[server.name] = (server.host, probed.system_name)
    return [Finding(subject, f"AMI at {place} accepts {server.username}"), *faults, *clock]


async def _examine_clock(reactor: Any, subject: str, ami: Any) -> list[Finding]:
    """Compare the clocks; `Ping` is answered with Asterisk's time."""
    answer = await _in_time(ami.sendDeferred({"Action": "Ping"}), reactor)
    try:
        skew = abs(datetime.fromtimestamp(float(answer["timestamp"]), UTC) - datetime.now(UTC))
    except (KeyError, ValueError, OverflowError, OSError):
        return []
    remedy = "" if skew < CLOCK_SKEW else "synchronize both clocks by NTP"
    return [Finding(subject, f"its clock is {skew / timedelta(seconds=1):.1f} s from this one", remedy)]


async def _examine_network(reactor: Any, settings: RadioNetwork) -> Finding:
    subject, place = f"network {settings.name}", f"{settings.host}:{settings.used_port}"
    network = network_of(reactor, settings)
    try:
        entries = await network.list_all()
    except BillerError as error:
        return Finding(subject, f"{place}: {error}", "is it started, and are its host and port right?")
    finally:
        await network.close()
    return Finding(subject, f"{place} answers with {len(entries)} subscribers")


async def _examine_smsc(reactor: Any, settings: Smpp) -> Finding:
    """Bind as the biller does. What the SMSC delivers meanwhile is asked for again later."""
    place = f"{settings.host}:{settings.port}"

    async def refuse(_pdu: Any) -> int:
        return TEMPORARY_ERROR

    async def connect() -> SmppConnection:
        connection = SmppConnection(reactor, settings, refuse)
        await smsc_endpoint(reactor, settings).connect(SingleConnection(connection))
        return connection

    session = SmscSession(connect)
    try:
        await _in_time(Deferred.fromCoroutine(session.open([TRANSCEIVER, PAIR])), reactor)
    except BindRefused as error:
        if error.status == SMPP_ESME_RALYBND:
            return Finding("smpp", f"{place}: {settings.system_id!r} is bound already, by the running biller perhaps")
        return Finding("smpp", f"{place}: {error}", _BIND_REMEDIES.get(error.status, _BIND_REMEDY))
    except Exception as error:  # noqa: BLE001  how a connection ends has many types, TLS's among them
        why = tls_trust.explain(error, settings.host)
        return Finding("smpp", f"{place} does not let us bind: {why}", "check smpp.port, smpp.tls and smpp.ca_file")
    finally:
        session.drop("doctor is done")
    return Finding("smpp", f"{place} accepts {settings.system_id!r}, {'by TLS' if settings.tls else 'without TLS'}")


_BIND_REMEDY = "ask the operator of the message centre what it expects; smpp.system_type may matter"
_BIND_REMEDIES = {
    SMPP_ESME_RINVSYSID: "smpp.system_id is not a name that the message centre knows",
    SMPP_ESME_RINVPASWD: "smpp.password is not the one of smpp.system_id",
    SMPP_ESME_RBINDFAIL: "check smpp.system_id, smpp.password and smpp.system_type",
}


def _in_time(waited: Deferred[Any], reactor: Any) -> Awaitable[Any]:
    return waited.addTimeout(ANSWER_SECONDS, reactor)
