"""The settings: one class for each table of the TOML file, and `Config` for all of them.

The text below a field gives its meaning; the reference of the settings is generated from it. For operators
``etc/celcombiller.toml`` has the same. Besides the values only the time zone of this machine is read.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from datetime import time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import tzlocal
from msgspec import Meta, field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from celcombiller.config.checks import (
    SettingError,
    check_dial_options,
    check_networks,
    check_placeholders,
    check_port,
    check_template,
    check_unique,
    check_words,
)
from celcombiller.config.dialling_rules import find_plan
from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.addresses import parse_address
from celcombiller.core.model.dial_strings import show_value
from celcombiller.core.model.messages import Route
from celcombiller.core.rating.numbering import NumberingPlan
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from celcombiller.core.notifications.balance_enquiry import Wording
    from celcombiller.core.notifications.low_balance import NoticeRules
    from celcombiller.core.schedules.runs import ScheduleRules

# A 63-bit column holds the sum of more of these than any biller ever records.
_CREDITS_MAX = 10**12


# Endpoints that several processes can share: one binds the socket, and all inherit it.
_SHARED = ("tcp:", "tcp6:", "ssl:", "haproxy:tcp")


# \Z and not $, which lets a newline follow.
_Listen = Annotated[
    str,
    Meta(
        pattern=r"^((tcp|tcp6):[0-9]{1,5}(:[^\s]+)?|(unix|ssl|systemd|haproxy):[^\s]+)\Z",
        description='an endpoint such as "tcp:5000:interface=127.0.0.1", "unix:/run/celcombiller/rest" or "ssl:…"',
    ),
]


_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}\Z", description="1 to 32 letters, digits, _ or -")]


_ServerName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.:@+-]{1,64}\Z",
        description="1 to 64 letters, digits, or _ . : @ + -, as systemname in asterisk.conf",
    ),
]


_Port = Annotated[int, Meta(ge=1, le=65535)]


_Word = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,255}\Z", description="1 to 255 characters without spaces")]


_Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=255, description="one line of text")]


_Number = Annotated[
    str, Meta(pattern=r"^\+?[0-9*#]{1,20}\Z", description='a number as it is dialled, such as "112" or "*100#"')
]


_Code = Annotated[str, Meta(pattern=r"^[0-9*#]{0,20}\Z", description='a short code such as "100", or ""')]


_Prefix = Annotated[
    str, Meta(pattern=r"^(\+?[0-9]{1,20})?\Z", description='digits, or + and digits, or "" for every number')
]


_Sound = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_./:+-]{0,200}\Z", description='a sound file\'s name such as "custom/no-credit", or ""'),
]


_Origin = Annotated[
    str,
    Meta(pattern=r"^https?://[a-z0-9.\[\]:-]{1,255}\Z", description='an origin such as "https://console.example.org"'),
]


_Host = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,255}\Z", description='a host\'s name or address, or ""')]


_Octet = Annotated[int, Meta(ge=0, le=255)]


_Sender = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]{0,11}\Z|^[0-9]{12,15}\Z", description='a number, or up to 11 letters and digits, or ""'
    ),
]


_Credits = Annotated[int, Meta(ge=0, le=_CREDITS_MAX)]


_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


_Time = Annotated[
    str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z", description='a time of the day such as "00:30"')
]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file. Keys that it does not know are refused."""


class Database(_Table, frozen=True):
    """The database that holds the ledger."""

    url: str = "sqlite:///celcombiller.sqlite"
    """``sqlite:///FILE``, relative to the folder of the settings file, or ``postgresql+psycopg://…``."""
    lock_seconds: Annotated[int, Meta(ge=1, le=60)] = 5
    """Seconds to wait for a lock that another process holds on the database."""

    def __post_init__(self) -> None:
        """Refuse a URL that cannot be opened. The message does not show it: it may hold a password."""
        try:
            url = make_url(self.url)
        except (ArgumentError, ValueError):
            url = None
        if url is not None and url.drivername == "sqlite" and _is_file_name(url.database or ""):
            if url.query:
                raise SettingError("url", "a SQLite URL has no parameters: write sqlite:///FILE")
            return
        if url is not None and url.drivername == "postgresql+psycopg" and url.database:
            return
        scheme = self.url.partition(":")[0]
        if scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
            raise SettingError("url", f"write postgresql+psycopg:// in place of {scheme}:// (and name the database)")
        raise SettingError("url", "must be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")

    def __repr__(self) -> str:
        """Return it without the passwords."""
        return f"Database(url={show_url(self.url)!r}, lock_seconds={self.lock_seconds})"

    def relative_to(self, folder: Path) -> Database:
        """Return it with the absolute path of a SQLite file, whose relative one is relative to ``folder``."""
        url = make_url(self.url)
        if url.drivername != "sqlite":
            return self
        path = folder.resolve() / str(url.database)
        return msgspec.structs.replace(self, url=url.set(database=str(path)).render_as_string())


def _is_file_name(name: str) -> bool:
    """Return whether a SQLite database of this name is a file that a path names, and no URI of SQLite's own."""
    return name not in ("", ":memory:") and name.isprintable() and not name.startswith("file:")


class Service(_Table, frozen=True):
    """The process itself."""

    log: Literal["text", "json"] = "text"
    """The form of twistd's log: text for people, or one line of JSON for each event."""
    log_lines_per_peer: Annotated[int, Meta(ge=1, le=1_000_000)] = 600
    """Lines of the log that one address (of IPv6: one /64) may cause in a minute by its requests, so that no client
    fills the disk. How many were left out is one more line."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many processes share the listening ports; more than one needs PostgreSQL."""
    one_core: bool = True
    """Whether the threads that work on calls stay on one processor core, which costs less. Each worker has its own."""


class Rest(_Table, frozen=True):
    """The REST API."""

    listen: _Listen = "tcp:5000:interface=127.0.0.1"
    """A Twisted server endpoint; ``ssl:…`` for TLS."""
    session_hours: Annotated[int, Meta(ge=1, le=720)] = 12
    """Hours until a login ends."""
    body_kib_max: Annotated[int, Meta(ge=1, le=1024)] = 64
    """The largest body of a request, in KiB."""
    balance_checks: Literal["token", "loopback"] = "token"
    """Who may ask for a balance by IMSI: those with a login or a token, or also any program on this machine."""
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 500
    """Connections in all; each needs an open file. A new one replaces the one that waits longest without a request.
    Where few files may be open, a quarter of them is the limit: the others are for calls."""
    connections_per_address_max: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Connections of one address (of IPv6: of one /64), so that one client cannot take all. A trusted proxy has no
    limit of its own, nor has what comes by ``unix:`` or ``haproxy:``."""
    requests_max: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Requests in work at once; more are answered 503 at once. Each of them takes memory and a place in the queue of
    the database. /healthz, /readyz and /metrics do not count."""
    head_seconds: Annotated[int, Meta(ge=1, le=600)] = 10
    """Seconds for the head of a request, and from a new connection to its first request."""
    body_seconds: Annotated[int, Meta(ge=1, le=3600)] = 30
    """Seconds for the body of a request. The largest one comes over a slow mobile link in that time."""
    upload_mib_max: Annotated[int, Meta(ge=1, le=1024)] = 32
    """The largest file of CSV, such as a price list, in MiB: half a million rates. Two are received at once, in files
    of the system's temporary folder."""
    upload_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """Seconds for the upload of a file, in place of ``body_seconds``."""
    idle_seconds: Annotated[int, Meta(ge=1, le=3600)] = 60
    """Seconds that a connection stays open between two requests, for the next page that a person looks at."""
    send_seconds: Annotated[int, Meta(ge=1, le=3600)] = 60
    """Seconds that a client may take to receive what waits to be sent. Slower ones are cut off."""
    unsent_kib_max: Annotated[int, Meta(ge=4, le=65_536)] = 64
    """KiB that wait to be sent on a connection before nothing more is read from it, and no further request begun."""
    hashes_waiting_max: Annotated[int, Meta(ge=1, le=100_000)] = 400
    """Passwords that wait to be checked or hashed: at the default, about half a minute's work. Further logins are
    answered 429. Of one principal's changes no more than a tenth may wait."""
    trusted_proxies: tuple[str, ...] = ()
    """The addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; ``unix`` is whoever connects
    to a UNIX socket. Each proxy on this machine must be here: its requests look like those of local programs."""
    cors_origins: tuple[_Origin, ...] = ()
    """The origins whose pages may use the API from a browser."""

    def __post_init__(self) -> None:
        """Refuse a port or an address that does not exist."""
        check_port(self.listen)
        for position, each in enumerate(self.trusted_proxies, 1):
            if each != "unix" and parse_address(each) is None:
                reason = f'must be an IP address, or "unix", not {show_value(each)}'
                raise SettingError(f"trusted_proxies item {position}", reason)


class Agi(_Table, frozen=True):
    """The FastAGI listener that the dialplan calls."""

    listen: _Listen = "tcp:4573:interface=127.0.0.1"
    """A Twisted server endpoint."""
    allow: tuple[str, ...] = ("127.0.0.1", "::1")
    """The addresses and networks that may connect over TCP."""
    library: Literal["builtin", "starpy"] = "builtin"
    """Which implementation of AGI and AMI runs: the built-in one, or starpy if it is installed."""
    idle_seconds: Annotated[int, Meta(ge=1, le=600)] = 10
    """Seconds that Asterisk may take for the environment, and for each answer outside a call."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 15_000
    """Sessions that may be open at once. One stays open for the length of each call."""
    connections_per_address_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Sessions of one address. 0: as many as in all, for one Asterisk has one address; but three quarters of them where
    there are several [[asterisk]] tables, so that one that runs wild leaves room for the calls of the others."""

    def __post_init__(self) -> None:
        """Refuse a port or an address that does not exist."""
        check_port(self.listen)
        check_networks(self.allow)

    @property
    def networks(self) -> _Networks:
        """``allow``, parsed."""
        return tuple(ipaddress.ip_network(each) for each in self.allow)


class Asterisk(_Table, frozen=True, kw_only=True):
    """One Asterisk server: where its manager interface (AMI) is and how to log in."""

    name: _ServerName
    """Part of the key of every call of this server: its systemname (asterisk.conf), where it has one."""
    host: _Word
    port: _Port = 5038
    username: _Word
    secret: _Text = ""
    secret_file: _Text = ""
    """A file that holds the secret, relative to the folder of the settings file. Empty once the file was read."""

    def __post_init__(self) -> None:
        """Refuse two sources of the secret, or none."""
        if bool(self.secret) == bool(self.secret_file):
            raise SettingError("secret", "write exactly one of secret and secret_file")

    def __repr__(self) -> str:
        """Return it without the secret."""
        return f"Asterisk(name={self.name!r}, host={self.host!r}, port={self.port}, username={self.username!r})"


class RadioNetwork(_Table, frozen=True, kw_only=True):
    """One radio network that has to know the subscribers: an OpenBTS or an OsmoHLR."""

    name: _Name
    """The name under which its queue is kept. Another name is another network."""
    kind: Literal["none", "openbts", "osmocom"] = "none"
    """``openbts``: the NodeManager of its sipauthserve; ``osmocom``: OsmoHLR; ``none``: nothing is sent to it."""
    host: _Word = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: the usual port, 45064 of the NodeManager or 4259 of OsmoHLR's control interface."""
    vty_port: _Port = 4258
    """The port of OsmoHLR's console (VTY), the only interface that lists the subscribers."""
    answer_seconds: Annotated[int, Meta(ge=1, le=10)] = 5
    """Seconds that the network may take for an answer."""
    retry_seconds_max: Annotated[int, Meta(ge=1, le=3600)] = 300
    """A failed change is tried again after 1, 2, 4, … seconds, and never later than after this many."""

    @property
    def used_port(self) -> int:
        """The port, or the usual one of its kind."""
        return self.port or (45064 if self.kind == "openbts" else 4259)


_Outcome = Annotated[
    str,
    Meta(
        pattern=r"^(CONGESTION|CHANUNAVAIL|BUSY|NOANSWER)( [0-9]{1,3})?\Z",
        description='CONGESTION, CHANUNAVAIL, BUSY or NOANSWER, alone or with a hangup cause such as "BUSY 34"',
    ),
]


class Calls(_Table, frozen=True):
    """How calls are authorized, dialled and limited."""

    ring_seconds: Annotated[int, Meta(ge=5, le=300)] = 40
    """Seconds that a phone rings."""
    max_call_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 7200
    """Seconds that a call may last, whatever the balance."""
    internal_dial: str = "PJSIP/IMSI{imsi}@openbts"
    """Dial string to a subscriber: ``{imsi}``, ``{clid}``, ``{username}``."""
    external_dial: str = ""
    """Dial string to any other ``{number}`` that has no route. Empty: only subscribers and numbers with a route."""
    always_allowed: tuple[_Number, ...] = ("112", "190")
    """Numbers that are put through without billing, whatever else fails."""
    always_allowed_dial: str = ""
    """Dial string for those. Empty: their route, else ``external_dial``, else the subscriber who has that number."""
    on_failure: Literal["deny", "allow"] = "deny"
    """What happens to a call that the ledger cannot authorize in time."""
    decision_seconds: Annotated[int, Meta(ge=1, le=60)] = 3
    """Seconds that a call waits for the ledger before ``on_failure`` decides."""
    failover_on: tuple[_Outcome, ...] = ("CONGESTION", "CHANUNAVAIL")
    """The ends of a Dial after which the next trunk of the route is tried: a DIALSTATUS, alone or with a hangup cause
    (``"BUSY 34"``)."""
    dial_options: str = "gi"
    """Options of every Dial. ``t`` and ``T`` let phones transfer calls: see the guide to Asterisk."""

    def __post_init__(self) -> None:
        """Refuse dial strings and options that would break a Dial or escape its limits."""
        check_template("internal_dial", self.internal_dial, ("imsi", "clid", "username"), required=True)
        check_template("external_dial", self.external_dial, ("number",), required=bool(self.external_dial))
        check_template("always_allowed_dial", self.always_allowed_dial, ("number",), required=False)
        check_dial_options(self.dial_options)


class Sms(_Table, frozen=True):
    """Text messages: their route, and the price of a part. Without a route there are none."""

    on_net_route: Literal["none", "asterisk", "smpp"] = "none"
    """The route of a message to a subscriber: Asterisk's MessageSend, or SMPP to an SMSC."""
    off_net_route: Literal["none", "asterisk", "smpp"] = "none"
    """The route of a message to any other number."""
    on_net_to: str = "pjsip:{clid}"
    """Where MessageSend sends a message to a subscriber: ``{imsi}``, ``{clid}``, ``{username}``."""
    off_net_to: str = ""
    """Where MessageSend sends a message to any other ``{number}``."""
    account: Literal["voice", "sms"] = "voice"
    """The account of the sender that pays."""
    on_net_price: _Credits = 1
    """Credits for each part of a message to a subscriber."""
    off_net_price: _Credits = 1
    """Credits for each part of a message to any other number."""
    parts_max: Annotated[int, Meta(ge=1, le=255)] = 10
    """The longest text, in parts."""
    sender: _Sender = ""
    """The sender of the operator's own messages."""
    balance_code: _Code = ""
    """A message to this number asks for the sender's balance, and costs nothing. Empty: no number does."""
    validity_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    """Hours after which a message that could not be sent expires."""
    retry_seconds_max: Annotated[int, Meta(ge=1, le=3600)] = 300
    """A message that was not sent is tried again after 1, 2, 4, … seconds, and never later than after this many."""

    def __post_init__(self) -> None:
        """Refuse an address that would break MessageSend, and a route without one."""
        check_template("on_net_to", self.on_net_to, ("imsi", "clid", "username"), required=True)
        check_template(
            "off_net_to",
            self.off_net_to,
            ("number",),
            required=self.off_net_route == "asterisk" or self.off_net_to != "",
        )

    @property
    def ways(self) -> frozenset[Route]:
        """The routes that are used."""
        return frozenset({Route(self.on_net_route), Route(self.off_net_route)} - {Route.NONE})

    @property
    def terms(self) -> MessagePolicy:
        """The part that the charging of messages needs."""
        return MessagePolicy(
            account=Kind(self.account),
            on_net_route=Route(self.on_net_route),
            off_net_route=Route(self.off_net_route),
            on_net_price=self.on_net_price,
            off_net_price=self.off_net_price,
            parts_max=self.parts_max,
            sender=self.sender,
            validity=timedelta(hours=self.validity_hours),
        )


class Smpp(_Table, frozen=True):
    """A message centre (SMSC) that accepts messages by SMPP 3.4."""

    host: _Host = ""
    port: _Port = 2775
    tls: bool = False
    """Whether the connection is encrypted, and the SMSC proves by a certificate that it is ``host``."""
    ca_file: _Text = ""
    """A file of trusted authorities, relative to the folder of the settings file. Empty: those of the system."""
    system_id: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,15}\Z", description="up to 15 characters")] = ""
    """The name to log in with (ESME)."""
    password: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,8}\Z", description="up to 8 characters")] = ""
    password_file: _Text = ""
    """A file that holds the password, relative to the folder of the settings file. Empty once the file was read."""
    system_type: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,12}\Z", description="up to 12 characters")] = ""
    source_ton: _Octet = 1
    """The type of the sender's number (1: international). A sender of letters has its own type."""
    source_npi: _Octet = 1
    """The numbering plan of the sender's number (1: E.164)."""
    destination_ton: _Octet = 1
    """The type of the recipient's number."""
    destination_npi: _Octet = 1
    """The numbering plan of the recipient's number."""
    default_alphabet: Literal["gsm", "latin1", "ascii"] = "gsm"
    """What the SMSC takes data_coding 0 for. A text with other characters is sent as UCS-2."""
    per_second: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """Parts that may be submitted in a second. When the SMSC says that it is too many, fewer are for a time."""
    at_once: Annotated[int, Meta(ge=1, le=100)] = 10
    """Parts that may wait for an answer at the same time."""
    answer_seconds: Annotated[int, Meta(ge=1, le=60)] = 10
    """Seconds that the SMSC may take for an answer."""
    enquire_seconds: Annotated[int, Meta(ge=5, le=600)] = 30
    """Seconds between two enquiries whether the SMSC is there (enquire_link)."""

    def __post_init__(self) -> None:
        """Refuse two sources of the password, and authorities without TLS."""
        if self.password and self.password_file:
            raise SettingError("password", "write one of password and password_file")
        if self.ca_file and not self.tls:
            raise SettingError("ca_file", "is for tls = true")

    def __repr__(self) -> str:
        """Return it without the password."""
        return f"Smpp(host={self.host!r}, port={self.port}, system_id={self.system_id!r})"


class Schedules(_Table, frozen=True):
    """When and how scheduled credits are made."""

    run_at: _Time = "00:30"
    """The local time in the schedule's zone at which a due date begins."""
    time_zone: str = ""
    """The time zone of a new schedule that names none. Empty: the zone of this machine."""
    catch_up_max_days: Annotated[int, Meta(ge=1, le=3660)] = 62
    """After a longer absence an operator has to confirm that the clock is right."""
    disabled_use_up: bool = False
    """Whether a run counts for a disabled member, who gets no credit."""

    def __post_init__(self) -> None:
        """Refuse a zone that does not exist."""
        try:
            ZoneInfo(self.time_zone or "UTC")
        except (OSError, ValueError, LookupError):
            what = 'must be a name of the IANA list such as "America/Sao_Paulo", or "" for this machine\'s zone'
            raise SettingError("time_zone", f"{what}, not {show_value(self.time_zone)}") from None

    @property
    def rules(self) -> ScheduleRules:
        """The part that decides when a date is due, and which missed dates are caught up."""
        from celcombiller.core.schedules.runs import ScheduleRules  # noqa: PLC0415  loads SQL

        return ScheduleRules(
            run_at=time.fromisoformat(self.run_at),
            catch_up_max_days=self.catch_up_max_days,
            disabled_use_up=self.disabled_use_up,
        )

    @property
    def zone(self) -> str:
        """``time_zone``, or the zone of this machine if it has a name, else UTC."""
        try:
            return self.time_zone or tzlocal.get_localzone_name() or "UTC"
        except (OSError, ValueError, LookupError):  # the files that name it contradict each other
            return "UTC"


class Metrics(_Table, frozen=True):
    """The metrics for operators: ``/metrics`` on the port of the REST API."""

    allow: tuple[str, ...] = ("127.0.0.1", "::1")
    """The addresses and networks that need no login. Others need a token with the scope read."""
    audit_hours: Annotated[int, Meta(ge=0, le=8760)] = 24
    """Hours between two audits of the ledger from its history; 0: none."""

    def __post_init__(self) -> None:
        """Refuse an address that does not exist."""
        check_networks(self.allow)

    @property
    def networks(self) -> _Networks:
        """``allow``, parsed."""
        return tuple(ipaddress.ip_network(each) for each in self.allow)


class RadiusClient(_Table, frozen=True, kw_only=True):
    """One NAS, or a network of them, that may send RADIUS requests."""

    name: _Name
    """Part of the key of each of its sessions."""
    address: _Word
    """Its address, or the network of several."""
    secret: _Text = ""
    secret_file: _Text = ""
    """A file that holds the secret, relative to the folder of the settings file. Empty once the file was read."""
    passwords: Literal["check", "ignore"] = "check"
    """Whether the user's password is checked. ``ignore``: the NAS identifies users by other means."""
    message_authenticator: Literal["require", "accept"] = "require"
    """Whether an Access-Request must have a Message-Authenticator (RFC 3579)."""
    realm: Literal["strip", "keep"] = "strip"
    """Whether ``ana@example.org`` is also looked for as the subscriber ``ana``."""
    volume: Literal["none", "mikrotik", "chillispot"] = "none"
    """The vendor whose attributes carry a limit of octets: RADIUS itself has none."""
    disconnect_port: Annotated[int, Meta(ge=0, le=65535)] = 3799
    """The port for Disconnect-Requests (RFC 5176); 0: it accepts none."""

    def __post_init__(self) -> None:
        """Refuse an address that does not exist, and two sources of the secret or none."""
        check_networks((self.address,), "address")
        if bool(self.secret) == bool(self.secret_file):
            raise SettingError("secret", "write exactly one of secret and secret_file")

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """``address``, parsed."""
        return ipaddress.ip_network(self.address)

    def __repr__(self) -> str:
        """Return it without the secret."""
        return f"RadiusClient(name={self.name!r}, address={self.address!r})"


class Radius(_Table, frozen=True):
    """Data by RADIUS: who may use a NAS, and what they used. Without clients no port is opened."""

    interface: _Word = "127.0.0.1"
    """The address of this machine on which it listens."""
    access_port: Annotated[int, Meta(ge=0, le=65535)] = 1812
    """The port for Access-Requests; 0: none are accepted."""
    accounting_port: Annotated[int, Meta(ge=0, le=65535)] = 1813
    """The port for Accounting-Requests; 0: none are accepted."""
    octets_per_credit: Annotated[int, Meta(ge=1, le=_CREDITS_MAX)] = 1
    """Octets that one data credit buys."""
    quota_octets: Annotated[int, Meta(ge=0, le=_CREDITS_MAX)] = 10_000_000
    """Octets for which a session holds credit at once; 0: all that is available."""
    interim_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """Seconds between two reports of a session that a NAS is asked for; 0: the NAS decides."""
    session_seconds_max: Annotated[int, Meta(ge=0, le=31_536_000)] = 86_400
    """Seconds that a session may last; 0: no limit."""
    silent_minutes: Annotated[int, Meta(ge=2, le=10_080)] = 60
    """Minutes without a report after which a session is closed, with the last usage that was reported."""
    clients: tuple[RadiusClient, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an address that does not exist, and two clients of one name or address."""
        try:
            ipaddress.ip_address(self.interface)
        except ValueError:
            raise SettingError("interface", f"must be an IP address, not {show_value(self.interface)}") from None
        check_unique("clients", "name", [each.name for each in self.clients])
        check_unique("clients", "address", [str(each.network) for each in self.clients])

    @property
    def conditions(self) -> Conditions:
        """Return the conditions that the charging of data sessions needs."""
        return Conditions(self.octets_per_credit, self.quota_octets, timedelta(minutes=self.silent_minutes))


class Prompts(_Table, frozen=True):
    """The sound file that is played for each refusal. Empty: none."""

    no_credit: _Sound = ""
    unknown: _Sound = ""
    disabled: _Sound = ""
    bad_number: _Sound = ""
    no_rate: _Sound = ""
    barred: _Sound = ""
    too_many_calls: _Sound = ""
    group_full: _Sound = ""
    no_trunk: _Sound = ""
    too_expensive: _Sound = ""
    failed: _Sound = ""


class Balance(_Table, frozen=True):
    """How a balance is given: spoken by the ``balance`` script, and in text messages."""

    say: Literal["time", "number"] = "time"
    """``time``: a voice credit is a second, and shown in minutes and seconds; ``number``: a number with ``scale``."""
    scale: Annotated[int, Meta(ge=0, le=9)] = 0
    """The number of digits after the point."""
    intro: _Sound = "vm-youhave"
    """The sound before a balance. Empty: none."""
    unit: _Sound = ""
    """The sound after a number. Empty: none."""
    text: _Text = "Your balance is {balance}."
    """The answer to a message that asks: ``{balance}`` as above, ``{credits}`` a bare number, ``{data}``, ``{sms}``."""
    sms_unit: _Sound = "vm-messages"
    """The sound after the credit for messages, if a separate account pays for them. Empty: none."""
    sms_text: _Text = "For messages: {sms}."
    """Text that is then added to the answer, with the placeholders of ``text``. Empty: none."""
    bundles_text: _Text = "Bundles: {bundles}."
    """Text that is added where there are bundles: ``{bundles}`` is what is left of each. Empty: none."""
    bundles_intro: _Sound = ""
    """The sound before the seconds and the messages of a subscriber's bundles. Empty: they are not said."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        allowed = ("balance", "credits", "data", "sms")
        check_placeholders("bundles_text", self.bundles_text, (*allowed, "bundles"))
        check_words("text", self.text, allowed)
        check_placeholders("sms_text", self.sms_text, allowed)

    @property
    def style(self) -> BalanceStyle:
        """The part that text messages need too."""
        return BalanceStyle(as_time=self.say == "time", scale=self.scale)


class Notices(_Table, frozen=True):
    """Messages to subscribers whose balance is low."""

    thresholds: Annotated[tuple[_Credits, ...], Meta(max_length=10)] = ()
    """The balances, in credits, at which a notice is sent. None: no notices."""
    kind: Literal["voice", "data", "sms"] = "voice"
    """The balance that is watched."""
    text: _Text = "Your balance is {balance}."
    """The notice: ``{balance}`` and ``{threshold}`` in the form of ``[balance]``, ``{credits}`` the bare number."""
    spending_share: Annotated[int, Meta(ge=0, le=100)] = 0
    """The share of a limit of spending, in percent, at which a message is sent, once a day or month; 0: none."""
    spending_text: _Text = "You have spent {spent} of {limit}."
    """That message: ``{spent}`` and ``{limit}`` in the form of ``[balance]``."""
    not_renewed: _Text = ""
    """The message when a bundle that renews itself could not be bought again: ``{name}`` is its name. Empty: none."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        check_words("text", self.text, ("balance", "credits", "threshold"))
        check_placeholders("not_renewed", self.not_renewed, ("name",))
        check_words("spending_text", self.spending_text, ("spent", "limit"))


class Numbering(_Table, frozen=True):
    """How numbers are dialled here, so that prefixes of tariffs and routes can be international. Else: as dialled.

    A national, local or international number is brought into its international form (E.164) before its price is looked
    up. Numbers with ``+``, ``*`` or ``#``, short ones and those of ``calls.always_allowed`` stay as they are.
    """

    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?\Z", description='two capital letters such as "BR", or ""')] = ""
    """The country (ISO 3166): its code, trunk and international prefixes are known. A key below replaces what is known.
    In Brazil the codes of carriers are understood."""
    country_code: Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,2})?\Z", description='a code such as "55", or ""')] = ""
    """Written in place of ``country``: the code alone. Then the prefixes that follow must be written, too."""
    trunk_prefix: Annotated[str, Meta(pattern=r"^[0-9]{0,5}\Z", description='digits such as "0", or ""')] = ""
    """What stands before a national number, and is left out."""
    international_prefixes: tuple[
        Annotated[str, Meta(pattern=r"^[0-9]{1,8}\Z", description='digits such as "00"')], ...
    ] = ()
    """What stands before an international number, in place of ``+``."""
    area_code: Annotated[str, Meta(pattern=r"^[0-9]{0,8}\Z", description='digits such as "11", or ""')] = ""
    """The area of the network: put before local numbers, which are dialled without it. Empty: there are none."""
    local_digits_max: Annotated[int, Meta(ge=0, le=15)] = 0
    """The longest local number; 0: what the area code leaves of the longest number of the country, where that is known,
    else every number without a trunk prefix is local. Longer ones are national."""
    short_digits_max: Annotated[int, Meta(ge=1, le=14)] = 6
    """A number of no more digits is a short code and stays as it is. Less where local numbers are shorter."""
    as_is: tuple[_Number, ...] = ()
    """Other numbers that stay as they are: emergency and service numbers that are longer."""

    def __post_init__(self) -> None:
        """Refuse a country that does not exist, and prefixes that no number could be told by."""
        if self.country and self.country_code:
            raise SettingError("country_code", f"is known of country = {show_value(self.country)}: write one of them")
        if self.country and find_plan(self.country) is None:
            raise SettingError("country", f"is no country with telephone numbers: {show_value(self.country)}")
        if not (self.country or self.country_code):
            for key in ("trunk_prefix", "international_prefixes", "area_code", "local_digits_max"):
                if getattr(self, key):
                    raise SettingError(key, "needs country or country_code in the same table")
        for each in self.international_prefixes:
            if self.trunk_prefix.startswith(each):
                reason = f"begins with the international prefix {each}: every number behind it would be international"
                raise SettingError("trunk_prefix", reason)

    def make_plan(self, as_is: Iterable[str]) -> NumberingPlan:
        """Return the plan, in which the numbers ``as_is`` stay as they are, too."""
        known = find_plan(self.country, self.area_code) if self.country else None
        plan = known or NumberingPlan(country_code=self.country_code, area_code=self.area_code)
        facts: dict[str, Any] = {}
        if self.trunk_prefix:
            facts |= {"trunk": self.trunk_prefix, "trunk_replacement": ""}
        if self.international_prefixes:
            longest_first = sorted(self.international_prefixes, key=len, reverse=True)
            facts["international"] = "|".join(longest_first)
        if self.local_digits_max:
            facts["local_digits_max"] = self.local_digits_max
        return dataclasses.replace(
            plan, short_digits_max=self.short_digits_max, as_is=frozenset((*self.as_is, *as_is)), **facts
        )


class RateRow(_Table, frozen=True):
    """One row of the price list; the longest prefix of a number wins."""

    prefix: _Prefix = ""
    name: _Text = ""
    connect_fee: _Credits = 0
    """Credits, once for an answered call."""
    price: _Credits = 1
    """Credits for each increment that is begun; 0: free."""
    increment_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 1


class Config(_Table, frozen=True):
    """All settings. The defaults: one SQLite file beside the settings file, loopback only, one credit a second."""

    service: Service = field(default_factory=Service)
    database: Database = field(default_factory=Database)
    rest: Rest = field(default_factory=Rest)
    agi: Agi = field(default_factory=Agi)
    asterisk: tuple[Asterisk, ...] = ()
    provisioning: tuple[RadioNetwork, ...] = ()
    calls: Calls = field(default_factory=Calls)
    numbering: Numbering = field(default_factory=Numbering)
    sms: Sms = field(default_factory=Sms)
    smpp: Smpp = field(default_factory=Smpp)
    schedules: Schedules = field(default_factory=Schedules)
    radius: Radius = field(default_factory=Radius)
    prompts: Prompts = field(default_factory=Prompts)
    balance: Balance = field(default_factory=Balance)
    notices: Notices = field(default_factory=Notices)
    metrics: Metrics = field(default_factory=Metrics)
    rates: tuple[RateRow, ...] = field(default_factory=lambda: (RateRow(),))

    def __post_init__(self) -> None:
        """Refuse tables that contradict each other: a name or a prefix twice, a route without its server."""
        check_unique("asterisk", "name", [each.name for each in self.asterisk])
        check_unique("asterisk", "host and port", [f"{each.host}:{each.port}" for each in self.asterisk])
        check_unique("provisioning", "name", [each.name for each in self.provisioning])
        check_unique("rates", "prefix", [each.prefix.removeprefix("+") for each in self.rates])
        if self.service.workers > 1:
            _check_shared(self)
        if Route.ASTERISK in self.sms.ways and not self.asterisk:
            raise SettingError("sms", '"asterisk" as a way of messages needs an [[asterisk]] table')
        if Route.SMPP in self.sms.ways and not self.smpp.host:
            raise SettingError("smpp.host", 'is missing; "smpp" as a way of messages ([sms]) needs it')
        if self.sms.on_net_route == "none":
            _check_notifiable(self)

    @property
    def numbering_plan(self) -> NumberingPlan:
        """How numbers are dialled; those that are always allowed stay as they are."""
        return self.numbering.make_plan(self.calls.always_allowed)

    @property
    def message_policy(self) -> MessagePolicy:
        """The part that the charging of messages needs, of all tables."""
        alphabet = DefaultAlphabet(self.smpp.default_alphabet)
        return dataclasses.replace(self.sms.terms, smsc_alphabet=alphabet, numbering=self.numbering_plan)

    @property
    def wording(self) -> Wording:
        """The text of the answer to a message that asks for a balance."""
        from celcombiller.core.notifications.balance_enquiry import Wording  # noqa: PLC0415  loads SQL

        table = self.balance
        of_sms = table.sms_text if self.sms.terms.account is Kind.SMS else ""
        return Wording(" ".join(filter(None, (table.text, of_sms))), table.style, table.bundles_text)

    @property
    def notice_rules(self) -> NoticeRules:
        """The rules that decide which subscribers get a notice."""
        from celcombiller.core.notifications.low_balance import NoticeRules  # noqa: PLC0415  loads SQL

        table = self.notices
        return NoticeRules(table.thresholds, Kind(table.kind), table.text, self.balance.style)


LISTS = ("asterisk", "provisioning", "rates")
"""The sections that may occur any number of times."""


TABLES = (*LISTS, "radius.clients")


SECTIONS = {each.name: each.type for each in msgspec.structs.fields(Config) if each.name not in LISTS}


def _check_notifiable(config: Config) -> None:
    """Refuse messages to subscribers if there is no route to them."""
    if config.sms.balance_code:
        raise SettingError("sms.balance_code", "the answer needs a way to subscribers: sms.on_net_route")
    if config.notices.thresholds:
        raise SettingError("notices.thresholds", "a notice needs a way to subscribers: sms.on_net_route")
    if config.notices.spending_share:
        raise SettingError("notices.spending_share", "a notice needs a way to subscribers: sms.on_net_route")
    if config.notices.not_renewed:
        raise SettingError("notices.not_renewed", "a notice needs a way to subscribers: sms.on_net_route")


def _check_shared(config: Config) -> None:
    """Refuse a database or an endpoint that several processes cannot share."""
    if config.database.url.startswith("sqlite"):
        raise SettingError(
            "service.workers", "several processes need PostgreSQL (database.url); one writes a SQLite file"
        )
    for section, listen in (("agi", config.agi.listen), ("rest", config.rest.listen)):
        if not listen.startswith(_SHARED):
            raise SettingError(f"{section}.listen", f"with service.workers it begins with one of {', '.join(_SHARED)}")
