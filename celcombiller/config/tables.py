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
    check_payment_secret,
    check_placeholders,
    check_port,
    check_template,
    check_unique,
    check_words,
)
from celcombiller.config.dialling_rules import find_plan
from celcombiller.core.credit_transfers.transfer_terms import Confirmation, CreditTransferTerms
from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.core.languages.built_in_texts import BUILT_IN, BUILT_IN_TEXTS
from celcombiller.core.languages.language import Languages
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.addresses import parse_address
from celcombiller.core.model.dial_strings import show_value
from celcombiller.core.model.messages import Route
from celcombiller.core.rating.numbering import NumberingPlan
from celcombiller.core.selling.selling_terms import SellingTerms
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.core.text_commands.command_formats import FIELDS, CommandFormat, CommandKind, list_fields
from celcombiller.core.text_commands.command_rules import CommandRules, CommandWording
from celcombiller.core.vouchers.card_sheet import CardLook
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from celcombiller.core.languages.language import Language
    from celcombiller.core.notifications.balance_enquiry import Wording
    from celcombiller.core.notifications.fee_notices import FeeNotices
    from celcombiller.core.notifications.low_balance import NoticeRules
    from celcombiller.core.schedules.runs import ScheduleRules
    from celcombiller.core.validity.validity_terms import ValidityTerms

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


_OutagePrefix = Annotated[
    str,
    Meta(
        pattern=r"^(\+?[0-9]{1,20}|on-net)?\Z",
        description='digits, or + and digits, or "on-net", or "" for every number',
    ),
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
    second_factor: Literal["optional", "staff"] = "optional"
    """Who logs in only with a code besides the password: who has set a second factor; with ``staff`` also every
    administrator and collaborator, who cannot log in until they have one (``celcombiller user set-second-factor``)."""
    password_minutes: Annotated[int, Meta(ge=0, le=43_200)] = 15
    """Minutes for which the password of staff counts, in a browser: before an export or a large credit they give it
    again if it was longer ago. 0: it is never asked again."""
    large_credit: _Credits = 0
    """Credits from which a credit is large: by hand, to a seller, as vouchers, a credit limit. 0: none is large."""
    login_code: bool = False
    """Whether subscribers may log in by a code that is sent to their phone, in place of a password. Who reads their
    messages then gets in. Staff need their password in any case."""
    login_code_text: _Text = BUILT_IN
    """The message with the code: ``{code}``, ``{minutes}``."""
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
    event_streams_max: Annotated[int, Meta(ge=1, le=100_000)] = 50
    """Streams of events that may be open at once (/api/v1/live/events); one user may have a tenth of them. Each is a
    connection that stays open, and counts as one."""
    hashes_waiting_max: Annotated[int, Meta(ge=1, le=100_000)] = 400
    """Passwords that wait to be checked or hashed: at the default, about half a minute's work. Further logins are
    answered 429. Of one principal's changes no more than a tenth may wait."""
    unknown_credentials_max: Annotated[int, Meta(ge=1, le=100_000)] = 50
    """Cookies and tokens that are looked up in a second without having been right in the last minute. Requests with
    more of them are answered 503: forged ones must not take the database's time from calls."""
    trusted_proxies: tuple[str, ...] = ()
    """The addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; ``unix`` is whoever connects
    to a UNIX socket. Each proxy on this machine must be here: its requests look like those of local programs."""
    cors_origins: tuple[_Origin, ...] = ()
    """The origins whose pages may use the API from a browser."""

    def __post_init__(self) -> None:
        """Refuse a port or an address that does not exist, and a text without the code."""
        check_port(self.listen)
        check_words("login_code_text", self.login_code_text, ("code", "minutes"), needed=("code",))
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
    bts_port: Annotated[int, Meta(ge=0, le=65535)] = 45060
    """The port of the NodeManager of OpenBTS itself, on the same host: it tells which phones were seen. 0: it is not
    asked."""
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


_WarningSeconds = Annotated[int, Meta(ge=2, le=600)]


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
    """What happens to a call that the ledger cannot authorize in time, where no ``[[outage]]`` table is for it. What
    ``allow`` lets go has no other limit than ``max_call_seconds``."""
    decision_seconds: Annotated[int, Meta(ge=1, le=60)] = 3
    """Seconds that a call waits for the ledger before ``[[outage]]`` or ``on_failure`` decides."""
    known_subscribers_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000
    """Subscribers that the biller keeps in memory for the time without a ledger: all of a smaller network, else those
    who called or were called last. Each takes about 2 KiB."""
    journal: _Text = ""
    """The file of the calls that go without the ledger, relative to the folder of the settings file. Empty: the SQLite
    file's name with ``.calls`` behind it, else ``celcombiller.calls`` in the folder in which the service runs."""
    failover_on: tuple[_Outcome, ...] = ("CONGESTION", "CHANUNAVAIL")
    """The ends of a Dial after which the next trunk of the route is tried: a DIALSTATUS, alone or with a hangup cause
    (``"BUSY 34"``)."""
    dial_options: str = "gi"
    """Options of every Dial. ``t`` and ``T`` let phones transfer calls: see the guide to Asterisk."""
    slice_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """Seconds of talk whose credit a call holds at a time, renewed while it lasts. 0: the whole call's, from the start.

    Renewing takes the AMI link to the call's server; without it a call holds credit for all that it may use.
    """
    warning_seconds: Annotated[tuple[_WarningSeconds, ...], Meta(max_length=10)] = ()
    """A caller whose credit ends hears ``warning_sound`` so many seconds before the end. Empty: never."""
    warning_sound: _Sound = ""
    """The sound of a warning. Empty: a short tone."""
    hangup_sound: _Sound = ""
    """The sound that a caller hears before an operator's order ends their call, four seconds later. Empty: none."""

    def __post_init__(self) -> None:
        """Refuse dial strings and options that would break a Dial or escape its limits."""
        check_template("internal_dial", self.internal_dial, ("imsi", "clid", "username"), required=True)
        check_template("external_dial", self.external_dial, ("number",), required=bool(self.external_dial))
        check_template("always_allowed_dial", self.always_allowed_dial, ("number",), required=False)
        check_dial_options(self.dial_options)
        if self.slice_seconds == 1:
            raise SettingError("slice_seconds", "must be 2 or more, or 0 for no slices")

    def relative_to(self, folder: Path) -> Calls:
        """Return it with the absolute path of the journal, whose relative one is relative to ``folder``."""
        return msgspec.structs.replace(self, journal=str(folder.resolve() / self.journal)) if self.journal else self


class Outage(_Table, frozen=True, kw_only=True):
    """What happens to calls to one class of numbers while the ledger cannot decide; the longest prefix wins.

    Exposure is what the calls that go without the ledger may cost, until the ledger has charged them.
    """

    prefix: _OutagePrefix
    """The first digits of the numbers. ``on-net`` means the numbers of subscribers, and comes before any prefix.
    Empty: every number."""
    policy: Literal["deny", "allow"]
    """``deny`` refuses new calls; ``allow`` lets go what the other keys allow, and charges it afterwards."""
    unknown_callers: Literal["deny", "allow"] = "deny"
    """What ``allow`` does for a caller who is not among ``calls.known_subscribers_max``."""
    call_seconds_max: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """Seconds that such a call may last, and never more than ``calls.max_call_seconds``."""
    calls_max: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Such calls that one caller may have at once."""
    credits_max: _Credits = 600
    """The exposure of one caller, in credits, all classes together. Nor is it ever more than the balance that was known
    last."""
    total_credits_max: _Credits = 100_000
    """The exposure of all callers together, in credits."""
    live_seconds_max: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """Seconds that a call in progress may go on beyond what it was granted where that cannot be renewed; 0: it ends."""


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
    parts_wait_seconds: Annotated[int, Meta(ge=1, le=3600)] = 600
    """Seconds that a long message for a phone waits for its next part; then it is delivered without those missing."""

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


class Fees(_Table, frozen=True):
    """What subscribers hear of their fees, and which numbers who has not paid may call."""

    suspended_allowed: tuple[_Number, ...] = ()
    """The numbers, or what they begin with, that a suspended subscriber may call and write to: the seller, the help
    desk. Those of ``calls.always_allowed`` go in any case."""
    reminder_text: _Text = ""
    """The message before a due date: ``{name}`` of the schedule, ``{amount}`` and ``{balance}`` in the form of
    ``[balance]``, ``{date}``. Empty: none."""
    unpaid_text: _Text = ""
    """The message on the due date, where the balance was too low: as above, and ``{left}`` is what is owed. Empty:
    none."""
    suspended_text: _Text = ""
    """The message to who is switched off: as for ``unpaid_text``. Empty: none."""
    resumed_text: _Text = ""
    """The message to who has paid and is on again: ``{name}``, ``{balance}``. Empty: none."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        check_placeholders("reminder_text", self.reminder_text, ("name", "amount", "balance", "date"))
        for key in ("unpaid_text", "suspended_text"):
            check_placeholders(key, getattr(self, key), ("name", "amount", "balance", "date", "left"))
        check_placeholders("resumed_text", self.resumed_text, ("name", "balance"))


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


class Cdr(_Table, frozen=True):
    """The call detail records of an Asterisk, as evidence beside the biller's own witnesses."""

    source: _Text = ""
    """A file of CSV (``Master.csv``) or SQLite, or the URL of a database, that the biller reads. Empty: none."""
    table: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]{1,100}\Z", description="the name of a table")] = "cdr"
    """The table of a database, with its schema where that is another than the usual one."""
    columns: tuple[_Name, ...] = ()
    """The columns of a file of CSV that has no header, and another order than that of cdr_csv."""
    server: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:@+-]{0,64}\Z", description='the name of a server, or ""')] = ""
    """The name of the Asterisk, as in ``[[asterisk]]``. Empty: the only one that is there."""
    zone: str = ""
    """The time zone of its times; ``UTC`` with usegmtime in cdr.conf. Empty: as ``schedules.time_zone``."""
    contexts: tuple[_Text, ...] = ()
    """The contexts of the dialplan whose calls are billed. Missing calls of others are no difference. None: all."""
    tolerance_seconds: Annotated[int, Meta(ge=0, le=3600)] = 2
    """Durations that differ by no more are equal: a record has whole seconds."""
    every_seconds: Annotated[int, Meta(ge=5, le=86_400)] = 60
    """How often new records are read."""
    settle: bool = False
    """Whether missing and open calls are settled by the records. Otherwise they are only reported."""

    def __post_init__(self) -> None:
        """Refuse a zone that does not exist."""
        try:
            ZoneInfo(self.zone or "UTC")
        except (OSError, ValueError, LookupError):
            what = 'must be a name of the IANA list such as "America/Sao_Paulo", or ""'
            raise SettingError("zone", f"{what}, not {show_value(self.zone)}") from None


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
    suspended: _Sound = ""
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
    text: _Text = BUILT_IN
    """The answer to a message that asks: ``{balance}`` as above, ``{credits}`` a bare number, ``{data}``, ``{sms}``."""
    sms_unit: _Sound = "vm-messages"
    """The sound after the credit for messages, if a separate account pays for them. Empty: none."""
    sms_text: _Text = BUILT_IN
    """Text that is then added to the answer, with the placeholders of ``text``. Empty: none."""
    bundles_text: _Text = BUILT_IN
    """Text that is added where there are bundles: ``{bundles}`` is what is left of each. Empty: none."""
    valid_until_text: _Text = ""
    """Text that is added where voice credit ends (``[credit_validity]``): ``{valid_until}`` is its last day.
    Empty: none."""
    bundles_intro: _Sound = ""
    """The sound before the seconds and the messages of a subscriber's bundles. Empty: they are not said."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        allowed = ("balance", "credits", "data", "sms")
        check_placeholders("bundles_text", self.bundles_text, (*allowed, "bundles"))
        check_placeholders("valid_until_text", self.valid_until_text, (*allowed, "valid_until"))
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
    text: _Text = BUILT_IN
    """The notice: ``{balance}`` and ``{threshold}`` in the form of ``[balance]``, ``{credits}`` the bare number."""
    spending_share: Annotated[int, Meta(ge=0, le=100)] = 0
    """The share of a limit of spending, in percent, at which a message is sent, once a day or month; 0: none."""
    spending_text: _Text = BUILT_IN
    """That message: ``{spent}`` and ``{limit}`` in the form of ``[balance]``."""
    not_renewed: _Text = ""
    """The message when a bundle that renews itself could not be bought again: ``{name}`` is its name. Empty: none."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        check_words("text", self.text, ("balance", "credits", "threshold"))
        check_placeholders("not_renewed", self.not_renewed, ("name",))
        check_words("spending_text", self.spending_text, ("spent", "limit"))


class CreditTransfers(_Table, frozen=True):
    """Credit that subscribers hand to each other, out of what their voice balance has of its own."""

    enabled: bool = False
    """Whether subscribers may. Staff can make such a transfer for them in any case."""
    least: Annotated[int, Meta(ge=1, le=_CREDITS_MAX)] = 1
    """The fewest credits of one transfer."""
    most: _Credits = 0
    """The most credits of one transfer; 0: no limit."""
    day_limit: _Credits = 0
    """The most credits that one subscriber may transfer on a day (``schedules.time_zone``); 0: no limit."""
    fee: _Credits = 0
    """Credits that the payer pays for each transfer."""
    fee_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    """And of its amount so many percent, rounded up."""
    confirm: Literal["code", "pin", "none"] = "code"
    """How the payer confirms: by a code of six digits that is sent to their phone; ``pin``: by their PIN where they
    have one, else by a code; ``none``: not at all."""
    confirm_minutes: Annotated[int, Meta(ge=1, le=1440)] = 10
    """Minutes until a transfer that is not confirmed is cancelled. So it is after three wrong codes."""
    asked_text: _Text = BUILT_IN
    """The message with the code: ``{code}``, ``{amount}``, ``{fee}``, ``{number}``, ``{minutes}``."""
    pin_text: _Text = BUILT_IN
    """The message in its place where the PIN confirms: as ``asked_text``, without ``{code}``."""
    made_text: _Text = BUILT_IN
    """The answer when it is made: ``{amount}``, ``{fee}``, ``{number}``, ``{balance}``."""
    received_text: _Text = BUILT_IN
    """The message to the recipient: ``{amount}``, ``{number}`` (the payer's), ``{balance}``. Empty: none."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders, a question without its code, and limits that allow nothing."""
        check_words("asked_text", self.asked_text, ("code", "amount", "fee", "number", "minutes"), needed=("code",))
        check_words("pin_text", self.pin_text, ("amount", "fee", "number", "minutes"))
        check_words("made_text", self.made_text, ("amount", "fee", "number", "balance"))
        check_placeholders("received_text", self.received_text, ("amount", "number", "balance"))
        for key in ("most", "day_limit"):
            if 0 < getattr(self, key) < self.least:
                raise SettingError(key, f"is less than least ({self.least}): no transfer would be allowed")


class Vouchers(_Table, frozen=True):
    """What is printed on vouchers beside the code, the value and the serial number (``celcombiller voucher print``)."""

    title: _Text = ""
    """The first line of a card, such as the name of the network."""
    text: _Text = ""
    """How to redeem it, such as "Send V {code} to 123": ``{code}`` is the code without spaces."""
    qr_text: _Text = "{code}"
    """What the QR code says: such as "SMSTO:123:V {code}", which lets a phone write the message."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders, and a QR code without the code."""
        check_placeholders("text", self.text, ("code",))
        check_placeholders("qr_text", self.qr_text, ("code",))
        if "{code}" not in self.qr_text:
            raise SettingError("qr_text", "must have {code}")

    @property
    def look(self) -> CardLook:
        """The part that the page needs."""
        return CardLook(self.title, self.text, self.qr_text)


_Denomination = Annotated[int, Meta(ge=1, le=_CREDITS_MAX)]

_ValidDays = Annotated[int, Meta(ge=0, le=36_500)]


class CreditValidity(_Table, frozen=True):
    """How long credit is valid after the last top-up. As it is here, credit has no end.

    Credit that is there when this is set, or made shorter, counts from then. The days are those of the zone of
    ``[schedules]``: credit ends with its last day.
    """

    voice_days: _ValidDays = 0
    """Days that voice credit is valid after a top-up; 0: for ever."""
    data_days: _ValidDays = 0
    """Days that data credit is valid after a top-up; 0: for ever."""
    sms_days: _ValidDays = 0
    """Days that credit for messages is valid after a top-up, where a separate account pays for them; 0: for ever."""
    top_ups: tuple[Literal["operator", "sale", "voucher", "payment", "schedule", "credit_transfer"], ...] = (
        "operator",
        "sale",
        "voucher",
        "payment",
        "schedule",
    )
    """What gives all credit of the account its full time again: credits of operators, sales of sellers, vouchers,
    payments of providers, scheduled credits, credit from another subscriber."""
    notice_days: Annotated[int, Meta(ge=0, le=365)] = 0
    """So many days before the last one the subscriber gets a message; 0: none."""
    notice_text: _Text = BUILT_IN
    """That message: ``{balance}`` in the form of ``[balance]``, ``{credits}`` the bare number, ``{date}``."""

    def __post_init__(self) -> None:
        """Refuse a text with unknown placeholders, and a notice that would come with the top-up."""
        check_words("notice_text", self.notice_text, ("balance", "credits", "date"))
        shortest = min((each for each in (self.voice_days, self.data_days, self.sms_days) if each), default=0)
        if shortest and self.notice_days >= shortest:
            raise SettingError("notice_days", f"must be less than the {shortest} days for which credit is valid")


_SOLD = ("amount", "number", "name", "receipt", "balance")


class Sellers(_Table, frozen=True):
    """Sellers of credit (`celcombiller seller`): how a sale is undone, receipts, and messages to both sides."""

    undo_minutes: Annotated[int, Meta(ge=0, le=10_080)] = 10
    """Minutes in which a seller may undo a sale, while the credit is still there. Staff may do so later, too."""
    office: Annotated[
        str,
        Meta(
            pattern=r"^(?!S[0-9])[A-Za-z][A-Za-z0-9_]{0,15}\Z",
            description="1 to 16 letters, digits or _, not S and digits",
        ),
    ] = "office"
    """The name of this office before the numbers of its receipts. Each office has its own numbers, and each seller."""
    tax_percent: Annotated[
        str,
        Meta(pattern=r"^([0-9]{1,2}(\.[0-9]{1,2})?)?\Z", description='a percentage such as "17.5", or ""'),
    ] = ""
    """The rate of the tax in prices, as receipts show it. Empty: none."""
    tax_name: _Text = "tax"
    """What that tax is called, such as VAT."""
    denominations: Annotated[tuple[_Denomination, ...], Meta(max_length=20)] = ()
    """Amounts of voice credit that are sold most, in credits: pages offer them, and people choose one of them."""
    sold_text: _Text = ""
    """The message to the seller after a sale: ``{amount}``, ``{number}``, ``{name}`` (of the buyer), ``{receipt}``,
    ``{balance}`` (what is left to sell). Empty: none, as of the texts that follow."""
    bought_text: _Text = ""
    """The message to the subscriber, with their own balance; ``{name}`` is the seller's."""
    undone_text: _Text = ""
    """The message to the seller when a sale was undone; without ``{name}``."""
    taken_back_text: _Text = ""
    """The message to the subscriber when a sale was undone; without ``{name}``."""
    refilled_text: _Text = ""
    """The message to the seller after a refill, as ``undone_text``; ``{number}`` is their own."""

    def __post_init__(self) -> None:
        """Refuse texts with unknown placeholders."""
        for key in ("sold_text", "bought_text"):
            check_placeholders(key, getattr(self, key), _SOLD)
        for key in self.texts[2:]:
            check_placeholders(key, getattr(self, key), tuple(each for each in _SOLD if each != "name"))

    @property
    def tax_rate(self) -> int:
        """The rate of the tax in hundredths of a percent."""
        whole, _, decimals = self.tax_percent.partition(".")
        return int((whole or "0") + decimals.ljust(2, "0"))

    @property
    def texts(self) -> tuple[str, ...]:
        """The keys of the messages."""
        return ("sold_text", "bought_text", "undone_text", "taken_back_text", "refilled_text")


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


class Keypad(_Table, frozen=True):
    """What is heard while the keys of a phone sell, hand on, redeem or change a PIN. Empty: no sound is played.

    Those of Asterisk's own are a beginning; record sentences of your own, in your language.
    """

    number: _Sound = "telephone-number"
    """Asks for the number; the caller ends it with ``#``."""
    amount: _Sound = "number"
    """Asks for the amount; ``*`` is its decimal sign."""
    pin: _Sound = "vm-password"
    """Asks for the PIN."""
    wrong_pin: _Sound = "vm-incorrect"
    """The PIN is wrong. It can be tried three times in a call."""
    you_entered: _Sound = "you-entered"
    """Before the number that was entered, digit by digit."""
    amount_said: _Sound = "vm-for"
    """Before the amount."""
    balance: _Sound = "vm-youhave"
    """Before what is left to sell: what will be left, before the last key; and what is left, after it."""
    confirm: _Sound = "if-correct-press"
    """Before the key that sells."""
    last_key: Annotated[str, Meta(pattern=r"^[0-9]\Z", description="a key from 0 to 9")] = "1"
    """The key that sells. Any other sells nothing."""
    again: _Sound = "beeperr"
    """The same was sold a moment ago: the last key sells it once more."""
    code: _Sound = "vm-press"
    """Asks for the code that confirms a transfer, which comes by message."""
    sold: _Sound = "auth-thankyou"
    """It is done."""
    cancelled: _Sound = "cancelled"
    """Nothing is done, as the caller wished."""
    refused: _Sound = "im-sorry"
    """It is refused."""
    voucher: _Sound = "number"
    """Asks for the code of a voucher."""
    wrong_voucher: _Sound = "please-try-again"
    """No voucher has this code. It can be tried three times in a call."""
    new_pin: _Sound = "vm-newpassword"
    """Asks for a new PIN."""
    new_pin_again: _Sound = "vm-reenterpassword"
    """Asks for the new PIN once more."""
    pin_changed: _Sound = "vm-passchanged"
    """The PIN is changed."""
    key_seconds: Annotated[int, Meta(ge=1, le=60)] = 5
    """Seconds without a key that end an entry."""


class TextCommands(_Table, frozen=True):
    """Text messages of subscribers and sellers that ask the biller to do something: to sell, to redeem, to transfer.

    Each command has a number to which its messages are sent, and a format; several commands may share one number. A
    phone must be known by a password (see the page on selling by phone).
    """

    sell_code: _Code = ""
    """The number to which sellers send sales. Empty: there are no sales by text message."""
    sell_format: _Text = "{pin}#{number}#{amount}"
    """The text of a sale: ``{pin}``, ``{number}``, ``{amount}`` and what stands between them."""
    voucher_code: _Code = ""
    """The number for vouchers. Empty: none is redeemed by text message."""
    voucher_format: _Text = "{code}"
    """The text that redeems a voucher: ``{code}``."""
    transfer_code: _Code = ""
    """The number for transfers between subscribers (``credit_transfers``). Empty: there are none by text message."""
    transfer_format: _Text = "{number}#{amount}"
    """The text that asks for a transfer: ``{number}``, ``{amount}``."""
    pin_code: _Code = ""
    """The number for changes of the own PIN. Empty: none is changed by text message."""
    pin_format: _Text = "{old}#{new}#{again}"
    """The text that changes a PIN: ``{old}``, ``{new}``, ``{again}`` (the new one once more)."""
    over_smpp: bool = False
    """Whether messages from the SMSC may be commands. Only where the SMSC takes care that senders are not forged."""
    repeat_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 60
    """How long a sale with the same words as the last one is asked about before it is made again."""
    late_hours: Annotated[int, Meta(ge=0, le=720)] = 24
    """The age at which a command is refused, where its network says when it was sent (the SIP header ``Date``). 0: no
    age."""
    per_minute_max: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Commands of one subscriber in a minute; more are not answered."""
    sold_text: _Text = BUILT_IN
    """The answer to a sale: ``{amount}``, ``{number}``, ``{balance}``."""
    sold_already_text: _Text = BUILT_IN
    """The question before the same is sold again: ``{amount}``, ``{number}``, ``{time}``, ``{code}``."""
    redeemed_text: _Text = BUILT_IN
    """The answer to a voucher: ``{value}``, ``{balance}``."""
    pin_changed_text: _Text = BUILT_IN
    """The answer to a changed PIN."""
    refused_text: _Text = BUILT_IN
    """The answer to what is refused: ``{reason}``."""
    unknown_text: _Text = BUILT_IN
    """The answer to a message in none of the formats."""
    late_text: _Text = BUILT_IN
    """The answer to a message that is too old."""

    def __post_init__(self) -> None:
        """Refuse formats without their fields, two that look the same on one number, and unknown placeholders."""
        shapes: dict[tuple[str, str], str] = {}
        for each in self.formats:
            key = f"{_FORMAT_KEYS[each.kind]}_format"
            check_words(key, each.template, FIELDS[each.kind])
            if sorted(list_fields(each.template)) != sorted(FIELDS[each.kind]):
                names = " ".join(f"{{{name}}}" for name in FIELDS[each.kind])
                raise SettingError(key, f"must have each of {names} once")
            if "}{" in each.template.replace(" ", ""):
                raise SettingError(key, "must have something between two fields, such as #")
            other = shapes.setdefault((each.service_code, each.shape), key)
            if other != key:
                raise SettingError(key, f"looks like {other} on the same number ({each.service_code})")
        check_words("sold_text", self.sold_text, ("amount", "number", "balance"))
        check_words("sold_already_text", self.sold_already_text, ("amount", "number", "time", "code"), needed=("code",))
        check_words("redeemed_text", self.redeemed_text, ("value", "balance"))
        check_words("refused_text", self.refused_text, ("reason",))
        for key in ("pin_changed_text", "unknown_text", "late_text"):
            check_words(key, getattr(self, key), ())

    @property
    def formats(self) -> tuple[CommandFormat, ...]:
        """The formats of the commands that have a number."""
        return tuple(
            CommandFormat(kind, getattr(self, f"{key}_code"), getattr(self, f"{key}_format"))
            for kind, key in _FORMAT_KEYS.items()
            if getattr(self, f"{key}_code")
        )

    @property
    def service_codes(self) -> frozenset[str]:
        """The numbers to which commands are sent."""
        return frozenset(each.service_code for each in self.formats)


_FORMAT_KEYS = {
    CommandKind.SELL: "sell",
    CommandKind.VOUCHER: "voucher",
    CommandKind.TRANSFER: "transfer",
    CommandKind.CHANGE_PIN: "pin",
}


class Console(_Table, frozen=True):
    """The pages at ``/ui/``, for operators, sellers and subscribers."""

    enabled: bool = True
    """Whether there are pages. The API is there in any case."""
    own_process: bool = True
    """Whether pages are made in a process of their own, started with the first one, so that calls do not wait for
    them. It takes about 100 MB."""
    language: Literal["en", "pt_BR", "es"] = "en"
    """The language of pages for readers whose browser asks for none of these, of messages to subscribers who have
    chosen none, and of the numbers and dates in texts of your own."""


class PaymentProvider(_Table, frozen=True, kw_only=True):
    """A payment provider, or a program of yours beside one, that reports payments (``POST /api/v1/payments``)."""

    name: _Name
    """What the header Payment-Provider has. Part of the id of each of its payments."""
    secret: _Text = ""
    secret_file: _Text = ""
    """A file that holds the secret, relative to the folder of the settings file. Empty once the file was read."""
    currency: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,8}\Z", description="1 to 8 characters such as BRL")]
    """The currency of its amounts: that of the default tariff."""
    clock_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    """By how many seconds its clock and ours may differ. A notice that is older, or of the future, is refused."""
    reversal: Literal["refuse", "debt"] = "refuse"
    """What happens to a reversal when the credit is spent: it is refused; or what is there is taken, and the rest is
    recorded as a debt."""

    def __post_init__(self) -> None:
        """Refuse two sources of the secret, or none, and a short one."""
        if bool(self.secret) == bool(self.secret_file):
            raise SettingError("secret", "write exactly one of secret and secret_file")
        if self.secret:
            check_payment_secret(self.secret)

    def __repr__(self) -> str:
        """Return it without the secret."""
        return f"PaymentProvider(name={self.name!r}, currency={self.currency!r})"


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
    outage: tuple[Outage, ...] = ()
    credit_transfers: CreditTransfers = field(default_factory=CreditTransfers)
    text_commands: TextCommands = field(default_factory=TextCommands)
    keypad: Keypad = field(default_factory=Keypad)
    sellers: Sellers = field(default_factory=Sellers)
    numbering: Numbering = field(default_factory=Numbering)
    sms: Sms = field(default_factory=Sms)
    smpp: Smpp = field(default_factory=Smpp)
    schedules: Schedules = field(default_factory=Schedules)
    fees: Fees = field(default_factory=Fees)
    radius: Radius = field(default_factory=Radius)
    prompts: Prompts = field(default_factory=Prompts)
    balance: Balance = field(default_factory=Balance)
    notices: Notices = field(default_factory=Notices)
    credit_validity: CreditValidity = field(default_factory=CreditValidity)
    vouchers: Vouchers = field(default_factory=Vouchers)
    metrics: Metrics = field(default_factory=Metrics)
    cdr: Cdr = field(default_factory=Cdr)
    console: Console = field(default_factory=Console)
    payments: tuple[PaymentProvider, ...] = ()
    rates: tuple[RateRow, ...] = field(default_factory=lambda: (RateRow(),))

    def __post_init__(self) -> None:
        """Refuse tables that contradict each other: a name or a prefix twice, a route without its server."""
        check_unique("asterisk", "name", [each.name for each in self.asterisk])
        check_unique("asterisk", "host and port", [f"{each.host}:{each.port}" for each in self.asterisk])
        check_unique("provisioning", "name", [each.name for each in self.provisioning])
        check_unique("payments", "name", [each.name for each in self.payments])
        check_unique("outage", "prefix", [each.prefix.removeprefix("+") for each in self.outage])
        check_unique("rates", "prefix", [each.prefix.removeprefix("+") for each in self.rates])
        if self.service.workers > 1:
            _check_shared(self)
        if self.sms.balance_code in self.text_commands.service_codes:
            raise SettingError("sms.balance_code", "is a number of text_commands, too; each needs its own")
        if Route.ASTERISK in self.sms.ways and not self.asterisk:
            raise SettingError("sms", '"asterisk" as a way of messages needs an [[asterisk]] table')
        if Route.SMPP in self.sms.ways and not self.smpp.host:
            raise SettingError("smpp.host", 'is missing; "smpp" as a way of messages ([sms]) needs it')
        if self.sms.on_net_route == "none":
            _check_notifiable(self)
        if self.cdr.source and not self.cdr_server:
            raise SettingError("cdr.server", "is missing: there is not exactly one [[asterisk]] table")

    @property
    def cdr_server(self) -> str:
        """The name of the Asterisk whose records ``[cdr]`` has; empty: it is not said."""
        return self.cdr.server or (self.asterisk[0].name if len(self.asterisk) == 1 else "")

    @property
    def numbering_plan(self) -> NumberingPlan:
        """How numbers are dialled; those that are always allowed stay as they are."""
        return self.numbering.make_plan(self.calls.always_allowed)

    @property
    def message_policy(self) -> MessagePolicy:
        """The part that the charging of messages needs, of all tables."""
        alphabet = DefaultAlphabet(self.smpp.default_alphabet)
        return dataclasses.replace(
            self.sms.terms,
            smsc_alphabet=alphabet,
            numbering=self.numbering_plan,
            suspended_allowed=self.fees.suspended_allowed,
            languages=Languages(self.console.language, _load_language),
        )

    def phone_text(self, name: str) -> str:
        """Return the text of a setting such as ``balance.text``: the operator's own, or ours, which is a `Text`."""
        section, _, key = name.partition(".")
        own: str = getattr(getattr(self, section), key)
        return BUILT_IN_TEXTS[name] if own == BUILT_IN else own

    @property
    def wording(self) -> Wording:
        """The text of the answer to a message that asks for a balance."""
        from celcombiller.core.notifications.balance_enquiry import Wording  # noqa: PLC0415  loads SQL

        table = self.balance
        return Wording(
            text=self.phone_text("balance.text"),
            sms_text=self.phone_text("balance.sms_text") if self.sms.terms.account is Kind.SMS else "",
            style=table.style,
            bundles_text=self.phone_text("balance.bundles_text"),
            valid_until_text=self.phone_text("balance.valid_until_text"),
            zone=self.schedules.zone,
        )

    @property
    def validity_terms(self) -> ValidityTerms:
        """How long credit is valid, and what counts as a top-up."""
        from celcombiller.core.validity.validity_terms import TopUp, ValidityTerms  # noqa: PLC0415  loads SQL

        table = self.credit_validity
        days = {Kind.VOICE: table.voice_days, Kind.DATA: table.data_days, Kind.SMS: table.sms_days}
        return ValidityTerms(
            days={kind: each for kind, each in days.items() if each},
            top_ups=frozenset(map(TopUp, table.top_ups)),
            zone=self.schedules.zone,
            notice_days=table.notice_days,
            notice_text=self.phone_text("credit_validity.notice_text"),
        )

    @property
    def fee_notices(self) -> FeeNotices:
        """The messages about fees."""
        from celcombiller.core.notifications.fee_notices import FeeNotices  # noqa: PLC0415  loads SQL

        return FeeNotices(
            self.phone_text("fees.reminder_text"),
            self.phone_text("fees.unpaid_text"),
            self.phone_text("fees.suspended_text"),
            self.phone_text("fees.resumed_text"),
            self.balance.style,
            self.message_policy,
        )

    @property
    def notice_rules(self) -> NoticeRules:
        """The rules that decide which subscribers get a notice."""
        from celcombiller.core.notifications.low_balance import NoticeRules  # noqa: PLC0415  loads SQL

        table = self.notices
        return NoticeRules(table.thresholds, Kind(table.kind), self.phone_text("notices.text"), self.balance.style)

    @property
    def command_rules(self) -> CommandRules:
        """The rules of commands from phones."""
        table = self.text_commands
        return CommandRules(
            formats=table.formats,
            policy=self.message_policy,
            transfers=self.credit_transfer_terms,
            style=self.balance.style,
            wording=CommandWording(
                **{
                    each.name: self.phone_text(f"text_commands.{each.name}_text")
                    for each in dataclasses.fields(CommandWording)
                }
            ),
            zone=self.schedules.zone,
            repeat=timedelta(seconds=table.repeat_seconds),
            late=timedelta(hours=table.late_hours) if table.late_hours else None,
            per_minute_max=table.per_minute_max,
            selling=self.selling_terms,
        )

    @property
    def selling_terms(self) -> SellingTerms:
        """The conditions for sellers."""
        table = self.sellers
        return SellingTerms(
            undo_within=timedelta(minutes=table.undo_minutes),
            office=table.office,
            tax_rate=table.tax_rate,
            tax_name=table.tax_name,
            **{key: self.phone_text(f"sellers.{key}") for key in table.texts},
            style=self.balance.style,
            zone=ZoneInfo(self.schedules.zone),
            messages=self.message_policy,
        )

    @property
    def credit_transfer_terms(self) -> CreditTransferTerms:
        """The conditions for transfers between subscribers."""
        table = self.credit_transfers
        return CreditTransferTerms(
            enabled=table.enabled,
            least=table.least,
            most=table.most or None,
            day_limit=table.day_limit or None,
            fee=table.fee,
            fee_percent=table.fee_percent,
            confirmation=Confirmation(table.confirm),
            validity=timedelta(minutes=table.confirm_minutes),
            asked_text=self.phone_text("credit_transfers.asked_text"),
            pin_text=self.phone_text("credit_transfers.pin_text"),
            made_text=self.phone_text("credit_transfers.made_text"),
            received_text=self.phone_text("credit_transfers.received_text"),
            style=self.balance.style,
        )


LISTS = ("asterisk", "provisioning", "outage", "payments", "rates")
"""The sections that may occur any number of times."""


TABLES = (*LISTS, "radius.clients")


SECTIONS = {each.name: each.type for each in msgspec.structs.fields(Config) if each.name not in LISTS}


def _load_language(name: str) -> Language:
    """Return a language with its catalogue."""
    from celcombiller.runtime.languages import load_language  # noqa: PLC0415  loads Babel

    return load_language(name)


def _check_notifiable(config: Config) -> None:
    """Refuse messages to subscribers if there is no route to them."""
    notices, fees = config.notices, config.fees
    needed: dict[str, tuple[str, object]] = {
        "sms.balance_code": ("the answer needs", config.sms.balance_code),
        "rest.login_code": ("the code needs", config.rest.login_code),
        "notices.thresholds": ("a notice needs", notices.thresholds),
        "notices.spending_share": ("a notice needs", notices.spending_share),
        "text_commands": ("the answers need", config.text_commands.formats),
        "credit_validity.notice_days": ("a notice needs", config.credit_validity.notice_days),
        "notices.not_renewed": ("a notice needs", notices.not_renewed),
    }
    needed |= {f"sellers.{key}": ("a message needs", getattr(config.sellers, key)) for key in config.sellers.texts}
    for key in ("reminder_text", "unpaid_text", "suspended_text", "resumed_text"):
        needed[f"fees.{key}"] = ("a message needs", getattr(fees, key))
    for key, (what, is_set) in needed.items():
        if is_set:
            raise SettingError(key, f"{what} a way to subscribers: sms.on_net_route")
    if config.credit_transfers.enabled and config.credit_transfers.confirm != "none":
        reason = 'the code needs a way to subscribers: sms.on_net_route, or confirm = "none"'
        raise SettingError("credit_transfers.enabled", reason)


def _check_shared(config: Config) -> None:
    """Refuse a database or an endpoint that several processes cannot share."""
    if config.database.url.startswith("sqlite"):
        raise SettingError(
            "service.workers", "several processes need PostgreSQL (database.url); one writes a SQLite file"
        )
    for section, listen in (("agi", config.agi.listen), ("rest", config.rest.listen)):
        if not listen.startswith(_SHARED):
            raise SettingError(f"{section}.listen", f"with service.workers it begins with one of {', '.join(_SHARED)}")
