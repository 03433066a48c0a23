"""The settings: one TOML file and the environment to one frozen ``Config``, or one line that says what is wrong.

Reads the file and the secret files it names, and this machine's zone; it opens no database and no port. What a value
means is said beside its field here and, for operators, in ``etc/celcombiller.toml``.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import string
import tomllib
from collections import Counter
from datetime import time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import tzlocal
from msgspec import Meta, field, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from celcombiller.enquiries import Wording
from celcombiller.errors import ConfigError
from celcombiller.events import MessageTerms
from celcombiller.model import Kind, Route
from celcombiller.notices import Rules as NoticeRules
from celcombiller.runs import Rules
from celcombiller.telling import Style
from celcombiller.trust import certificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FILE_NAME = "celcombiller.toml"
SYSTEM_FILE = Path("/etc/celcombiller") / FILE_NAME
ENVIRONMENT_PREFIX = "CELCOMBILLER_"

# A 63-bit column holds any sum of these for longer than a biller lives.
_CREDITS_MAX = 10**12
# Taken by the biller (the limits and the answer stamp) or leaving the billed Dial at the answer (G).
_RESERVED_DIAL_OPTIONS = "LSUG"
_DIAL_OPTIONS = re.compile(r"([A-Za-z])(\([^(),\"\\\x00-\x1f\x7f]*\))?")
# What several processes can listen on: a socket that one of them binds and all inherit.
_SHARED = ("tcp:", "tcp6:", "ssl:", "haproxy:tcp")
_SWITCHES = {"true": True, "false": False}
_NEVER_SHOWN = frozenset({"secret", "url", "password"})

# \Z and not $, which lets a newline follow.
_Listen = Annotated[
    str,
    Meta(
        pattern=r"^((tcp|tcp6):[0-9]{1,5}(:[^\s]+)?|(unix|ssl|systemd|haproxy):[^\s]+)\Z",
        description='an endpoint such as "tcp:5000:interface=127.0.0.1", "unix:/run/celcombiller/rest" or "ssl:…"',
    ),
]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}\Z", description="1 to 32 letters, digits, _ or -")]
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


class _Wrong(ValueError):
    """A value of the right type that still cannot be used: its key in the table, and why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all tables of the file have in common."""


class Database(_Table, frozen=True):
    """Where the ledger lives."""

    url: str = "sqlite:///celcombiller.sqlite"
    """``sqlite:///FILE`` (relative to the current folder) or ``postgresql+psycopg://…``."""
    lock_seconds: Annotated[int, Meta(ge=1, le=60)] = 5
    """How long to wait for a lock that another process holds on the database."""

    def __post_init__(self) -> None:
        """Refuse what the store cannot open; the value itself is not shown, it may hold a password."""
        try:
            url = make_url(self.url)
        except (ArgumentError, ValueError):
            url = None
        if url is not None and url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
            return
        if url is not None and url.drivername == "postgresql+psycopg" and url.database:
            return
        scheme = self.url.partition(":")[0]
        if scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
            raise _Wrong("url", f"write postgresql+psycopg:// in place of {scheme}:// (and name the database)")
        raise _Wrong("url", "must be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")

    def __repr__(self) -> str:
        """Without the password."""
        url = make_url(self.url).render_as_string(hide_password=True)
        return f"Database(url={url!r}, lock_seconds={self.lock_seconds})"


class Service(_Table, frozen=True):
    """The process itself."""

    log: Literal["text", "json"] = "text"
    """How twistd's log is written: for people, or one line of JSON for each event."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many processes share the listening ports; more than one needs PostgreSQL."""
    one_core: bool = True
    """Whether what works on calls keeps to one processor core, which costs less; each worker has another."""


class Rest(_Table, frozen=True):
    """The REST API."""

    listen: _Listen = "tcp:5000:interface=127.0.0.1"
    """A Twisted server endpoint; ``ssl:…`` for TLS."""
    session_hours: Annotated[int, Meta(ge=1, le=720)] = 12
    """How long a login holds."""
    body_kib_max: Annotated[int, Meta(ge=1, le=1024)] = 64
    """The largest body of a request, in KiB."""
    balance_checks: Literal["token", "loopback"] = "token"
    """Who may ask a balance by IMSI: who is logged in or has a token, or also any program on this machine."""
    trusted_proxies: tuple[str, ...] = ()
    """The addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    cors_origins: tuple[_Origin, ...] = ()
    """The origins whose pages may use the API from a browser."""

    def __post_init__(self) -> None:
        """Refuse a port or an address that does not exist."""
        _check_port(self.listen)
        for position, each in enumerate(self.trusted_proxies, 1):
            try:
                ipaddress.ip_address(each)
            except ValueError:
                raise _Wrong(f"trusted_proxies item {position}", f"must be an IP address, not {_shown(each)}") from None


class Agi(_Table, frozen=True):
    """The FastAGI listener that the dialplan calls."""

    listen: _Listen = "tcp:4573:interface=127.0.0.1"
    """A Twisted server endpoint."""
    allow: tuple[str, ...] = ("127.0.0.1", "::1")
    """The addresses and networks that may connect over TCP."""
    library: Literal["builtin", "starpy"] = "builtin"
    """Whose AGI and AMI protocols run: ours, or starpy where it is installed."""
    idle_seconds: Annotated[int, Meta(ge=1, le=600)] = 10
    """How long Asterisk may take for the environment and for each answer outside a call."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 15_000
    """How many sessions may be open at once; one stays open for the length of each call."""

    def __post_init__(self) -> None:
        """Refuse a port or an address that does not exist."""
        _check_port(self.listen)
        _check_networks(self.allow)

    @property
    def networks(self) -> _Networks:
        """``allow``, parsed."""
        return tuple(ipaddress.ip_network(each) for each in self.allow)


class Asterisk(_Table, frozen=True, kw_only=True):
    """One Asterisk server: where its manager interface (AMI) is and how to log in."""

    name: _Name
    """Part of the key of every call of this server."""
    host: _Word
    port: _Port = 5038
    username: _Word
    secret: _Text = ""
    secret_file: _Text = ""
    """A file that holds the secret, relative to the folder of the configuration; empty once it was read."""

    def __post_init__(self) -> None:
        """Demand one source of the secret."""
        if bool(self.secret) == bool(self.secret_file):
            raise _Wrong("secret", "write exactly one of secret and secret_file")

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Asterisk(name={self.name!r}, host={self.host!r}, port={self.port}, username={self.username!r})"


class RadioNetwork(_Table, frozen=True, kw_only=True):
    """One radio network that is to know the subscribers: an OpenBTS or an OsmoHLR."""

    name: _Name
    """Under which its queue is kept: another name is another network."""
    kind: Literal["none", "openbts", "osmocom"] = "none"
    """``openbts``: the NodeManager of its sipauthserve; ``osmocom``: OsmoHLR; ``none``: leave it alone."""
    host: _Word = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: 45064 of the NodeManager, 4259 of OsmoHLR's control interface."""
    vty_port: _Port = 4258
    """OsmoHLR's console: it alone can list the subscribers."""
    answer_seconds: Annotated[int, Meta(ge=1, le=10)] = 5
    """How long the network may take for an answer."""
    retry_seconds_max: Annotated[int, Meta(ge=1, le=3600)] = 300
    """What failed is tried again after 1, 2, 4, … seconds, and at least so often."""

    @property
    def used_port(self) -> int:
        """The port, or the kind's own."""
        return self.port or (45064 if self.kind == "openbts" else 4259)


class Calls(_Table, frozen=True):
    """How calls are decided, dialled and limited."""

    ring_seconds: Annotated[int, Meta(ge=5, le=300)] = 40
    """How long a phone rings."""
    max_call_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 7200
    """How long a call may last, whatever the balance."""
    internal_dial: str = "PJSIP/IMSI{imsi}@openbts"
    """Dial string to a subscriber: ``{imsi}``, ``{clid}``, ``{username}``."""
    external_dial: str = ""
    """Dial string to any other ``{number}``; empty: only subscribers can be called."""
    always_allowed: tuple[_Number, ...] = ("112", "190")
    """Numbers put through unbilled, whatever else fails."""
    always_allowed_dial: str = ""
    """Dial string for those; empty: as ``external_dial``, else the subscriber who has that number."""
    on_failure: Literal["deny", "allow"] = "deny"
    """What becomes of a call that the ledger cannot decide."""
    decision_seconds: Annotated[int, Meta(ge=1, le=60)] = 3
    """How long a call waits for the ledger before ``on_failure`` decides."""
    dial_options: str = "gi"
    """Options of every Dial. ``t`` and ``T`` let phones transfer calls: the wiring guide says what that costs."""

    def __post_init__(self) -> None:
        """Refuse dial strings and options that would break a Dial or escape its limits."""
        _check_template("internal_dial", self.internal_dial, ("imsi", "clid", "username"), required=True)
        _check_template("external_dial", self.external_dial, ("number",), required=bool(self.external_dial))
        _check_template("always_allowed_dial", self.always_allowed_dial, ("number",), required=False)
        _check_dial_options(self.dial_options)


class Sms(_Table, frozen=True):
    """Text messages: which way they go, and what a part costs; without a way there are none."""

    on_net_route: Literal["none", "asterisk", "smpp"] = "none"
    """How one to a subscriber leaves: by Asterisk's MessageSend, or by SMPP to a message centre."""
    off_net_route: Literal["none", "asterisk", "smpp"] = "none"
    """The same for any other number."""
    on_net_to: str = "pjsip:{clid}"
    """Where MessageSend sends one to a subscriber: ``{imsi}``, ``{clid}``, ``{username}``."""
    off_net_to: str = ""
    """Where it sends one to any other ``{number}``."""
    account: Literal["voice", "sms"] = "voice"
    """Which credit of the sender pays."""
    on_net_price: _Credits = 1
    """Credits per part, to a subscriber."""
    off_net_price: _Credits = 1
    """The same to any other number."""
    parts_max: Annotated[int, Meta(ge=1, le=255)] = 10
    """The longest text, in short messages."""
    sender: _Sender = ""
    """Whom the operator's own messages come from."""
    balance_code: _Code = ""
    """A message to this number asks for the sender's balance and costs nothing; empty: none does."""
    validity_hours: Annotated[int, Meta(ge=1, le=168)] = 24
    """How long it is tried to send a message."""
    retry_seconds_max: Annotated[int, Meta(ge=1, le=3600)] = 300
    """What could not be sent is tried again after 1, 2, 4, … seconds, and at least so often."""

    def __post_init__(self) -> None:
        """Refuse an address that would break MessageSend, and a way without one."""
        _check_template("on_net_to", self.on_net_to, ("imsi", "clid", "username"), required=True)
        _check_template(
            "off_net_to",
            self.off_net_to,
            ("number",),
            required=self.off_net_route == "asterisk" or self.off_net_to != "",
        )

    @property
    def ways(self) -> frozenset[Route]:
        """The ways that are used."""
        return frozenset({Route(self.on_net_route), Route(self.off_net_route)} - {Route.NONE})

    @property
    def terms(self) -> MessageTerms:
        """What of it charging needs."""
        return MessageTerms(
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
    """A message centre (SMSC) that takes messages by SMPP 3.4."""

    host: _Host = ""
    port: _Port = 2775
    tls: bool = False
    """Whether it must prove by a certificate that it is ``host``, and nobody on the way can read."""
    ca_file: _Text = ""
    """The authorities that are trusted, a file relative to the folder of the configuration; empty: the system's."""
    system_id: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,15}\Z", description="up to 15 characters")] = ""
    """The name to log in with."""
    password: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,8}\Z", description="up to 8 characters")] = ""
    password_file: _Text = ""
    """A file that holds the password, relative to the folder of the configuration; empty once it was read."""
    system_type: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{0,12}\Z", description="up to 12 characters")] = ""
    source_ton: _Octet = 1
    """The type of our numbers (1: international) and their plan (1: E.164); letters say by themselves what they are."""
    source_npi: _Octet = 1
    destination_ton: _Octet = 1
    """The same of the numbers that are written to."""
    destination_npi: _Octet = 1
    per_second: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """How many parts may be submitted in a second."""
    at_once: Annotated[int, Meta(ge=1, le=100)] = 10
    """How many may wait for an answer at the same time."""
    answer_seconds: Annotated[int, Meta(ge=1, le=60)] = 10
    """How long the centre may take for an answer."""
    enquire_seconds: Annotated[int, Meta(ge=5, le=600)] = 30
    """How often it is asked whether it is there."""

    def __post_init__(self) -> None:
        """Demand at most one source of the password, and authorities only where they are asked."""
        if self.password and self.password_file:
            raise _Wrong("password", "write one of password and password_file")
        if self.ca_file and not self.tls:
            raise _Wrong("ca_file", "is for tls = true")

    def __repr__(self) -> str:
        """Without the password."""
        return f"Smpp(host={self.host!r}, port={self.port}, system_id={self.system_id!r})"


class Schedules(_Table, frozen=True):
    """When and how scheduled credits are given."""

    run_at: _Time = "00:30"
    """The local time, on a clock in the schedule's zone, at which a due date has come."""
    time_zone: str = ""
    """The zone of a new schedule that names none; empty: this machine's."""
    catch_up_max_days: Annotated[int, Meta(ge=1, le=3660)] = 62
    """After a longer absence an operator has to say that it was one and not a wrong clock."""
    disabled_use_up: bool = False
    """Whether a disabled member, who gets nothing, still has one run less."""

    def __post_init__(self) -> None:
        """Refuse a zone that there is not."""
        try:
            ZoneInfo(self.time_zone or "UTC")
        except (OSError, ValueError, LookupError):
            what = 'must be a name of the IANA list such as "America/Sao_Paulo", or "" for this machine\'s zone'
            raise _Wrong("time_zone", f"{what}, not {_shown(self.time_zone)}") from None

    @property
    def rules(self) -> Rules:
        """What of it decides when a date has come and what is caught up."""
        return Rules(
            run_at=time.fromisoformat(self.run_at),
            catch_up_max_days=self.catch_up_max_days,
            disabled_use_up=self.disabled_use_up,
        )

    @property
    def zone(self) -> str:
        """``time_zone``, or this machine's where it has a name, else UTC."""
        try:
            return self.time_zone or tzlocal.get_localzone_name() or "UTC"
        except (OSError, ValueError, LookupError):  # what says it is at odds with itself
            return "UTC"


class Metrics(_Table, frozen=True):
    """What is measured for operators, ``/metrics`` on the REST port."""

    allow: tuple[str, ...] = ("127.0.0.1", "::1")
    """The addresses and networks that read it without a login; others need a token with the scope read."""
    audit_hours: Annotated[int, Meta(ge=0, le=8760)] = 24
    """How often the ledger is proved from its history; 0: never."""

    def __post_init__(self) -> None:
        """Refuse an address that does not exist."""
        _check_networks(self.allow)

    @property
    def networks(self) -> _Networks:
        """``allow``, parsed."""
        return tuple(ipaddress.ip_network(each) for each in self.allow)


class RadiusClient(_Table, frozen=True, kw_only=True):
    """One NAS, or a network of them, that may ask and tell by RADIUS."""

    name: _Name
    """Part of the key of every session of it."""
    address: _Word
    """Its address, or the network that it is in."""
    secret: _Text = ""
    secret_file: _Text = ""
    """A file that holds the secret, relative to the folder of the configuration; empty once it was read."""
    passwords: Literal["check", "ignore"] = "check"
    """Whether the user's password is looked at; ``ignore`` where the NAS knows by other means who it is."""
    message_authenticator: Literal["require", "accept"] = "require"
    """Whether an Access-Request must have a Message-Authenticator (RFC 3579)."""
    realm: Literal["strip", "keep"] = "strip"
    """Whether ``ana@example.org`` may also be the subscriber ``ana``."""
    volume: Literal["none", "mikrotik", "chillispot"] = "none"
    """In whose attributes it takes a limit of octets: RADIUS itself has none."""
    disconnect_port: Annotated[int, Meta(ge=0, le=65535)] = 3799
    """Where it takes Disconnect-Requests (RFC 5176); 0: it does not."""

    def __post_init__(self) -> None:
        """Refuse an address that does not exist; demand one source of the secret."""
        _check_networks((self.address,), "address")
        if bool(self.secret) == bool(self.secret_file):
            raise _Wrong("secret", "write exactly one of secret and secret_file")

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """``address``, parsed."""
        return ipaddress.ip_network(self.address)

    def __repr__(self) -> str:
        """Without the secret."""
        return f"RadiusClient(name={self.name!r}, address={self.address!r})"


class Radius(_Table, frozen=True):
    """Data by RADIUS: who may use a NAS, and what he used. Without clients nothing is opened."""

    interface: _Word = "127.0.0.1"
    """The address of this machine on which it listens."""
    access_port: Annotated[int, Meta(ge=0, le=65535)] = 1812
    """Access-Requests; 0: none are taken."""
    accounting_port: Annotated[int, Meta(ge=0, le=65535)] = 1813
    """Accounting-Requests; 0: none are taken."""
    octets_per_credit: Annotated[int, Meta(ge=1, le=_CREDITS_MAX)] = 1
    """How many octets one data credit buys."""
    quota_octets: Annotated[int, Meta(ge=0, le=_CREDITS_MAX)] = 10_000_000
    """How much of the credit a session holds at once; 0: all that is there."""
    interim_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """How often a NAS is asked to tell of a session; 0: as often as it likes."""
    session_seconds_max: Annotated[int, Meta(ge=0, le=31_536_000)] = 86_400
    """How long a session may last; 0: without an end."""
    silent_minutes: Annotated[int, Meta(ge=2, le=10_080)] = 60
    """A session of which nothing was told for so long is closed with what was last known."""
    clients: tuple[RadiusClient, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an address that does not exist, and two clients that cannot be told apart."""
        try:
            ipaddress.ip_address(self.interface)
        except ValueError:
            raise _Wrong("interface", f"must be an IP address, not {_shown(self.interface)}") from None
        _check_unique("clients", "name", [each.name for each in self.clients])
        _check_unique("clients", "address", [str(each.network) for each in self.clients])


class Prompts(_Table, frozen=True):
    """The sound file played for each refusal; empty: none."""

    no_credit: _Sound = ""
    unknown: _Sound = ""
    disabled: _Sound = ""
    bad_number: _Sound = ""
    no_rate: _Sound = ""
    failed: _Sound = ""


class Balance(_Table, frozen=True):
    """How a balance is told, aloud by the ``balance`` script and in text messages."""

    say: Literal["time", "number"] = "time"
    """``time``: a voice credit is a second, told in minutes and seconds; ``number``: with its ``scale``."""
    scale: Annotated[int, Meta(ge=0, le=9)] = 0
    """How many digits of a number stand behind the point."""
    intro: _Sound = "vm-youhave"
    """The sound before a balance; empty: none."""
    unit: _Sound = ""
    """The sound after a number; empty: none."""
    text: _Text = "Your balance is {balance}."
    """The answer to a message that asks: ``{balance}`` told as above, ``{credits}`` bare, ``{data}`` and ``{sms}``."""
    sms_unit: _Sound = "vm-messages"
    """The sound after the credit for messages, where they are paid from an account of their own; empty: none."""
    sms_text: _Text = "For messages: {sms}."
    """What the answer goes on with there, filled in as ``text``; empty: nothing."""

    def __post_init__(self) -> None:
        """Refuse words that cannot be filled in."""
        allowed = ("balance", "credits", "data", "sms")
        _check_words("text", self.text, allowed)
        _check_placeholders("sms_text", self.sms_text, allowed)

    @property
    def style(self) -> Style:
        """What of it texts need as well."""
        return Style(as_time=self.say == "time", scale=self.scale)


class Notices(_Table, frozen=True):
    """Messages to subscribers whose balance has become low."""

    thresholds: Annotated[tuple[_Credits, ...], Meta(max_length=10)] = ()
    """The credits at which one is sent; none: no notices."""
    kind: Literal["voice", "data", "sms"] = "voice"
    """Which balance is looked at."""
    text: _Text = "Your balance is {balance}."
    """``{balance}`` and ``{threshold}`` as ``[balance]`` says, ``{credits}`` the bare number."""

    def __post_init__(self) -> None:
        """Refuse words that cannot be filled in."""
        _check_words("text", self.text, ("balance", "credits", "threshold"))


class RateRow(_Table, frozen=True):
    """One row of the price list; the longest prefix of a number wins."""

    prefix: _Prefix = ""
    name: _Text = ""
    connect_fee: _Credits = 0
    """Credits, once per answered call."""
    price: _Credits = 1
    """Credits per begun increment; 0 is free."""
    increment_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 1


class Config(_Table, frozen=True):
    """Every setting. Without a file: one SQLite file here, loopback only, one credit a second."""

    service: Service = field(default_factory=Service)
    database: Database = field(default_factory=Database)
    rest: Rest = field(default_factory=Rest)
    agi: Agi = field(default_factory=Agi)
    asterisk: tuple[Asterisk, ...] = ()
    provisioning: tuple[RadioNetwork, ...] = ()
    calls: Calls = field(default_factory=Calls)
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
        """Refuse two of one name, two rates of one prefix, and workers that could not share what they need."""
        _check_unique("asterisk", "name", [each.name for each in self.asterisk])
        _check_unique("provisioning", "name", [each.name for each in self.provisioning])
        _check_unique("rates", "prefix", [each.prefix.removeprefix("+") for each in self.rates])
        if self.service.workers > 1:
            _check_shared(self)
        if Route.ASTERISK in self.sms.ways and not self.asterisk:
            raise _Wrong("sms", '"asterisk" as a way of messages needs an [[asterisk]] table')
        if Route.SMPP in self.sms.ways and not self.smpp.host:
            raise _Wrong("smpp.host", 'is missing; "smpp" as a way of messages ([sms]) needs it')
        if self.sms.on_net_route == "none":
            _check_untold(self)

    @property
    def wording(self) -> Wording:
        """How a message that asks for a balance is answered."""
        table = self.balance
        of_sms = table.sms_text if self.sms.terms.account is Kind.SMS else ""
        return Wording(" ".join(filter(None, (table.text, of_sms))), table.style)

    @property
    def notice_rules(self) -> NoticeRules:
        """What decides who is told that his balance is low."""
        table = self.notices
        return NoticeRules(table.thresholds, Kind(table.kind), table.text, self.balance.style)


_Secretive = TypeVar("_Secretive", Asterisk, RadiusClient)

_LISTS = ("asterisk", "provisioning", "rates")
"""The sections with any number of tables."""

_TABLES = (*_LISTS, "radius.clients")

_SECTIONS = {each.name: each.type for each in msgspec.structs.fields(Config) if each.name not in _LISTS}


def load(path: Path | None, environ: Mapping[str, str], folder: Path = Path()) -> Config:
    """Read the settings, or raise ``ConfigError`` whose text is one line; ``environ`` wins over the file.

    Without ``path`` the first of ``celcombiller.toml`` in ``folder`` and ``SYSTEM_FILE`` is read, else none.
    """
    file = path if path is not None else source(folder)
    tables = _parse(file) if file is not None else {}
    from_environment = dict(_environment(environ))
    for (section, key), value in from_environment.items():
        table = tables.setdefault(section, {})
        if isinstance(table, dict):  # if not, the conversion below says so
            table[key] = value
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        _refuse(file, tables, from_environment, error)
    servers = _with_secrets("asterisk", config.asterisk, file)
    clients = _with_secrets("radius.clients", config.radius.clients, file)
    radius = msgspec.structs.replace(config.radius, clients=clients)
    smpp = _with_password(_with_authorities(config.smpp, file, from_environment), file, from_environment)
    return msgspec.structs.replace(config, asterisk=servers, radius=radius, smpp=smpp)


def source(folder: Path = Path()) -> Path | None:
    """Say which file is read when none is named."""
    for candidate in (folder / FILE_NAME, SYSTEM_FILE):
        try:
            if candidate.exists():
                return candidate
        except OSError as error:
            raise _line(candidate, f"cannot be read: {error.strerror}") from None
    return None


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise _line(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _line(file, "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise _line(file, f"is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        raise _line(file, "is not TOML that makes sense: a number too long, or tables nested too deep") from None


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], object]]:
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section in _LISTS:
            advice = "keep the secret out of it with secret_file" if section == "asterisk" else "there may be many"
            raise _line("environment", f"{name}: [[{section}]] tables are set in the file only; {advice}")
        if section not in _SECTIONS:
            continue  # another program's, or a switch of the tests
        types = {each.name: inspect.type_info(each.type) for each in msgspec.structs.fields(_SECTIONS[section])}
        if key not in types:
            known = [f"{ENVIRONMENT_PREFIX}{section}_{each}".upper() for each in types]
            raise _line("environment", f"{name}: {_unknown(name, known)}")
        yield (section, key), _from_text(environ[name], types[key])


def _from_text(text: str, wanted: inspect.Type) -> object:
    """Turn an environment variable's text into what TOML would give; leave what does not fit for the check."""
    if isinstance(wanted, inspect.VarTupleType):
        return [each.strip() for each in text.split(",") if each.strip()]
    if isinstance(wanted, inspect.BoolType) and text.strip().lower() in _SWITCHES:
        return _SWITCHES[text.strip().lower()]
    if isinstance(wanted, inspect.IntType) and re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII):
        return int(text)
    return text


def _refuse(
    file: Path | None,
    tables: dict[str, Any],
    from_environment: Mapping[tuple[str, str], object],
    error: msgspec.ValidationError,
) -> NoReturn:
    """Say in the operator's words what msgspec found, from where it found it."""
    found = re.search(r" - at `\$([^`]*)`$", str(error))
    steps: list[str | int] = [
        int(index) if index else name
        for name, index in re.findall(r"\.([a-z_]+)|\[([0-9]+)\]", found.group(1) if found else "")
    ]
    wrong = error.__cause__
    if isinstance(wrong, _Wrong):
        steps.append(wrong.key)
        reason = wrong.reason
    else:
        reason = _reason(tables, steps)
    key = tuple(str(each).partition(" ")[0] for each in steps[:2])
    if key in from_environment:
        name = ENVIRONMENT_PREFIX + "_".join(key).upper()
        raise _line("environment", f"{name}: {reason}")
    raise _line(file or FILE_NAME, f"{_place(steps)}: {reason}" if steps else reason)


def _reason(tables: dict[str, Any], steps: list[str | int]) -> str:
    """Compare the value at ``steps`` with its type; where a key is unknown or missing, append it to ``steps``."""
    value: Any = tables
    wanted: inspect.Type = inspect.type_info(Config)
    for step in steps:
        value = value[step]
        bare = _bare(wanted)
        if isinstance(step, int):
            wanted = bare.item_type if isinstance(bare, inspect.VarTupleType) else wanted
        elif isinstance(bare, inspect.StructType):
            wanted = next(each.type for each in bare.fields if each.name == step)
    bare = _bare(wanted)
    if isinstance(bare, inspect.StructType) and isinstance(value, dict):
        known = {each.name: each for each in bare.fields}
        for key in value:
            if key not in known:
                steps.append(key)
                return _unknown(key, known)
        missing = next(each for each in bare.fields if each.required and each.name not in value)
        steps.append(missing.name)
        return f"is missing; must be {_allowed(missing.type)}"
    shown = "" if steps and steps[-1] in _NEVER_SHOWN else f", not {_shown(value)}"
    return f"must be {_allowed(wanted)}{shown}"


def _bare(wanted: inspect.Type) -> inspect.Type:
    return wanted.type if isinstance(wanted, inspect.Metadata) else wanted


def _allowed(wanted: inspect.Type) -> str:
    if isinstance(wanted, inspect.Metadata):
        described = (wanted.extra_json_schema or {}).get("description")
        return str(described) if described else _allowed(wanted.type)
    if isinstance(wanted, inspect.IntType):
        return f"a whole number from {wanted.ge} to {wanted.le}"
    if isinstance(wanted, inspect.BoolType):
        return " or ".join(_SWITCHES)
    if isinstance(wanted, inspect.LiteralType):
        return " or ".join(_shown(each) for each in wanted.values)
    if isinstance(wanted, inspect.VarTupleType):
        return f"a list, each item {_allowed(wanted.item_type)}"
    return "a table" if isinstance(wanted, inspect.StructType) else "text in quotes"


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"unknown; did you mean {close[0]}?" if close else f"unknown; known are {', '.join(names)}"


def _shown(value: object) -> str:
    """Show a wrong value, short and on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004 - a line stays a line


def _place(steps: list[str | int]) -> str:
    """Name a key as the file spells it; tables and items count from 1, as people do."""
    for depth in (1, 2):
        names, number = steps[:depth], steps[depth] if len(steps) > depth else None
        if isinstance(number, int) and ".".join(map(str, names)) in _TABLES:
            table = f"[[{'.'.join(map(str, names))}]] table {number + 1}"
            return ": ".join([table, *(str(each) for each in steps[depth + 1 :])])
    return ".".join(str(each) for each in steps if isinstance(each, str)) + "".join(
        f" item {each + 1}" for each in steps if isinstance(each, int)
    )


def _line(where: Path | str, text: str) -> ConfigError:
    """Make the one line: whatever a file or a name contained, it has no control characters."""
    line = f"{where}: {text}"
    return ConfigError("".join(each if each.isprintable() else repr(each)[1:-1] for each in line))


def _with_secrets(section: str, tables: tuple[_Secretive, ...], file: Path | None) -> tuple[_Secretive, ...]:
    return tuple(_with_secret(section, each, file, position) for position, each in enumerate(tables, 1))


def _with_secret(section: str, server: _Secretive, file: Path | None, position: int) -> _Secretive:
    if not server.secret_file:
        return server
    secret = _in_file(file, f"[[{section}]] table {position}: secret_file", server.secret_file, 255)
    return msgspec.structs.replace(server, secret=secret, secret_file="")


def _with_password(smpp: Smpp, file: Path | None, from_environment: Mapping[tuple[str, str], object]) -> Smpp:
    if not smpp.password_file:
        return smpp
    is_set = ("smpp", "password_file") in from_environment
    here = f"{ENVIRONMENT_PREFIX}SMPP_PASSWORD_FILE" if is_set else "smpp.password_file"
    password = _in_file(file, here, smpp.password_file, 8)
    return msgspec.structs.replace(smpp, password=password, password_file="")


def _with_authorities(smpp: Smpp, file: Path | None, from_environment: Mapping[tuple[str, str], object]) -> Smpp:
    if not smpp.ca_file:
        return smpp
    is_set = ("smpp", "ca_file") in from_environment
    here = f"{ENVIRONMENT_PREFIX}SMPP_CA_FILE" if is_set else "smpp.ca_file"
    name = ((file or Path(FILE_NAME)).parent / smpp.ca_file).absolute()
    try:
        certificates(name.read_bytes())
    except OSError as error:
        raise _line(file or FILE_NAME, f"{here}: {name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _line(file or FILE_NAME, f"{here}: {name}: {error}") from None
    return msgspec.structs.replace(smpp, ca_file=str(name))


def _in_file(file: Path | None, here: str, named: str, characters_max: int) -> str:
    """Read the one line of a file that holds a secret."""
    name = (file or Path(FILE_NAME)).parent / named
    try:
        secret = name.read_bytes().decode("utf-8").strip()
    except OSError as error:
        raise _line(file or FILE_NAME, f"{here}: {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _line(file or FILE_NAME, f"{here}: {name} is not UTF-8 text") from None
    if not 0 < len(secret) <= characters_max or re.search(r"[\x00-\x1f\x7f]", secret):
        raise _line(file or FILE_NAME, f"{here}: {name} must hold one line of 1 to {characters_max} characters")
    return secret


def _check_port(listen: str) -> None:
    kind, _, rest = listen.partition(":")
    port = rest.partition(":")[0]
    if kind.startswith("tcp") and int(port) > 65535:  # noqa: PLR2004 - TCP's own
        raise _Wrong("listen", f"the port must be from 0 to 65535, not {port}")


def _check_networks(allow: tuple[str, ...], key: str = "") -> None:
    for position, each in enumerate(allow, 1):
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            reason = f"must be an IP address or a network such as 10.0.0.0/8, not {_shown(each)}"
            if "host bits" in str(error):
                reason += f" (write {ipaddress.ip_network(each, strict=False)})"
            raise _Wrong(key or f"allow item {position}", reason) from None


def _check_words(key: str, template: str, allowed: tuple[str, ...]) -> None:
    """Refuse the text of a message that is empty, or whose placeholders are not these."""
    _check_placeholders(key, template, allowed)
    if not template.strip():
        raise _Wrong(key, "must not be empty")


def _check_template(key: str, template: str, allowed: tuple[str, ...], *, required: bool) -> None:
    fields = _check_placeholders(key, template, allowed)
    if not template.isprintable() or "," in template or template != template.strip():
        raise _Wrong(key, "must be one dial string without commas, newlines or outer spaces")
    if required and not fields:
        raise _Wrong(key, f"must use at least one of {_choice(allowed)}")


def _check_placeholders(key: str, template: str, allowed: tuple[str, ...]) -> list[str]:
    choice = _choice(allowed)
    try:
        fields = [
            (name, conversion, form)
            for _, name, form, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError:
        raise _Wrong(key, f"has a lone {{ or }}; placeholders are {choice}") from None
    for name, conversion, form in fields:
        if name not in allowed or conversion or form:
            raise _Wrong(key, f"{_shown('{' + name + '}')} is no placeholder here; allowed are {choice}")
    return [name for name, _, _ in fields]


def _choice(allowed: tuple[str, ...]) -> str:
    return ", ".join(f"{{{each}}}" for each in allowed)


def _check_dial_options(options: str) -> None:
    letters = [match.group(1) for match in _DIAL_OPTIONS.finditer(options)]
    if _DIAL_OPTIONS.sub("", options):
        raise _Wrong("dial_options", f"must be letters, each with or without (arguments), not {_shown(options)}")
    for letter in letters:
        if letter in _RESERVED_DIAL_OPTIONS:
            raise _Wrong("dial_options", f"{letter} is the biller's own; the others may be used, not L, S, U, G")


def _check_untold(config: Config) -> None:
    """Refuse what is to be told by messages to subscribers, where there is no way for them."""
    if config.sms.balance_code:
        raise _Wrong("sms.balance_code", "the answer needs a way to subscribers: sms.on_net_route")
    if config.notices.thresholds:
        raise _Wrong("notices.thresholds", "a notice needs a way to subscribers: sms.on_net_route")


def _check_shared(config: Config) -> None:
    if config.database.url.startswith("sqlite"):
        raise _Wrong("service.workers", "several processes need PostgreSQL (database.url); one writes a SQLite file")
    for section, listen in (("agi", config.agi.listen), ("rest", config.rest.listen)):
        if not listen.startswith(_SHARED):
            raise _Wrong(f"{section}.listen", f"with service.workers it begins with one of {', '.join(_SHARED)}")


def _check_unique(section: str, key: str, values: list[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise _Wrong(section, f"{times} tables have {key} = {_shown(value)}; each needs its own")
