"""OsmoHLR: entries by its control interface (CTRL), and the list of all by its console (VTY), which alone has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.network import NetworkRefused, check_digits, check_imsi, check_msisdn
from celcombiller.core.provisioning.seen_phones import SeenPhone
from celcombiller.provisioning import osmocom_ctrl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celcombiller.core.provisioning.entries import ProvisioningEntry, UnreadableRow

LIST_BYTES_MAX = 256 * 1024 * 1024
"""Of the list of all: 70 bytes a subscriber."""

NOBODY = ("No such subscriber.", "Subscriber doesn't exist.")
THERE_ALREADY = "Subscriber already exists."


class Osmocom:
    """One OsmoHLR. It keeps one CTRL connection, made when it is needed and given up at the first silence."""

    keeps_names = False

    def __init__(self, reactor: Any, host: str, port: int, vty_port: int, *, answer_seconds: float) -> None:
        self._reactor = reactor
        self._host, self._port, self._vty_port = host, port, vty_port
        self._seconds = answer_seconds
        self._open: _Ctrl | None = None
        self._lists: set[_Console] = set()
        self._ending = False
        self.unreadable: Sequence[UnreadableRow] | None = None

    async def read(self, imsis: Collection[str], numbers: Collection[str]) -> list[ProvisioningEntry]:
        """Ask for each IMSI and each number."""
        found: dict[str, ProvisioningEntry] = {}
        for imsi in imsis:
            check_imsi(imsi)
        for number in numbers:
            check_msisdn(number)
        for key, words in (("imsi", imsis), ("msisdn", numbers)):
            for word in words:
                reply = await self._ask("GET", f"subscriber.by-{key}-{word}.info")
                if reply.error is None:
                    entry = osmocom_ctrl.entry_of(reply.value)
                    if entry is not None:
                        found[entry.imsi] = entry
                elif reply.error not in NOBODY:
                    raise NetworkUnavailable(f"OsmoHLR does not say who is there: {reply.error}")
        return list(found.values())

    async def list_all(self) -> list[ProvisioningEntry]:
        """Ask the console."""
        found: osmocom_ctrl.ConsoleList = await self._list(osmocom_ctrl.LIST_COMMAND, osmocom_ctrl.listed)
        self.unreadable = found.unreadable
        return found.entries

    async def list_seen(self) -> list[SeenPhone]:
        """Ask the console for all, and for when it heard of each; it tells of phones that it has an entry of."""
        found: osmocom_ctrl.ConsoleList = await self._list(osmocom_ctrl.LIST_COMMAND, osmocom_ctrl.listed)
        ages = await self._list(osmocom_ctrl.LAST_SEEN_COMMAND, osmocom_ctrl.read_ages)
        return [SeenPhone(each.imsi, ages.get(each.imsi)) for each in found.entries]

    async def _list(self, command: bytes, read: Callable[[bytes], Any]) -> Any:
        """Return what the console answers, read in a thread: it may be long."""
        console: _Console = await self._connect(_Console(self._reactor, self._seconds, command), self._vty_port)
        self._lists.add(console)
        try:
            data = await console.done
        except (DeferredTimeout, CancelledError):
            raise NetworkUnavailable(f"the console does not answer within {self._seconds} s") from None
        finally:
            self._lists.discard(console)
            console.abort()
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), read, data)

    async def create(self, entry: ProvisioningEntry) -> None:
        """Create a subscriber, then set the number."""
        check_digits(entry)
        await self._do("subscriber.create", entry.imsi, fine=(THERE_ALREADY,))
        await self._do(f"subscriber.by-imsi-{entry.imsi}.msisdn", entry.msisdn)

    async def change(self, was: ProvisioningEntry, entry: ProvisioningEntry) -> None:
        """Set another number; what else OsmoHLR has of the subscriber (keys, location) stays."""
        check_digits(entry)
        await self._do(f"subscriber.by-imsi-{was.imsi}.msisdn", entry.msisdn)

    async def free(self, entry: ProvisioningEntry) -> None:
        """Take the number away: OsmoHLR gives none to two."""
        check_imsi(entry.imsi)
        await self._do(f"subscriber.by-imsi-{entry.imsi}.msisdn", "none")

    async def delete(self, imsi: str) -> None:
        """Remove a subscriber, with the keys."""
        check_imsi(imsi)
        await self._do("subscriber.delete", imsi, fine=NOBODY)

    async def close(self) -> None:
        """Abort the connections."""
        self._ending = True
        for each in (self._open, *self._lists):
            if each is not None:
                each.abort()

    async def _do(self, variable: str, value: str, *, fine: Collection[str] = ()) -> None:
        reply = await self._ask("SET", variable, value)
        if reply.error is not None and reply.error not in fine:
            raise NetworkRefused(f"OsmoHLR: {reply.error}")

    async def _ask(self, verb: str, variable: str, value: str = "") -> osmocom_ctrl.CtrlReply:
        if self._open is None or self._open.is_lost:
            self._open = await self._connect(_Ctrl(), self._port)
        opened = self._open
        try:
            return await opened.ask(verb, variable, value).addTimeout(self._seconds, self._reactor)
        except (DeferredTimeout, CancelledError):
            opened.abort()
            raise NetworkUnavailable(f"OsmoHLR does not answer within {self._seconds} s") from None

    async def _connect(self, protocol: Any, port: int) -> Any:
        if self._ending:
            raise NetworkUnavailable("the biller stops")
        endpoint = HostnameEndpoint(self._reactor, self._host, port, timeout=self._seconds)
        try:
            return await endpoint.connect(Factory.forProtocol(lambda: protocol))
        except (ConnectError, DNSLookupError, OSError) as error:
            raise NetworkUnavailable(f"OsmoHLR at {self._host}:{port} cannot be reached: {error}") from None


class _Lossy(Protocol):
    """What the two connections have in common: they are lost once, and whoever waits hears why."""

    is_lost = False

    def abort(self) -> None:
        """Abort the connection."""
        if self.transport is not None and not self.is_lost:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = Failure(ConnectError())) -> None:  # noqa: B008  Twisted's own default
        """Fail everything that still waits."""
        self.is_lost = True
        self.lose(Failure(NetworkUnavailable(f"OsmoHLR ended the connection: {reason.getErrorMessage()}")))

    def lose(self, why: Failure) -> None:
        """Fail what waits."""


class _Ctrl(_Lossy):
    """One CTRL connection: each request has a number of its own, which its reply repeats."""

    def __init__(self) -> None:
        self._decoder = osmocom_ctrl.CtrlDecoder()
        self._waiting: dict[str, Deferred[osmocom_ctrl.CtrlReply]] = {}
        self._number = 0

    def ask(self, verb: str, variable: str, value: str) -> Deferred[osmocom_ctrl.CtrlReply]:
        """Send a request; fires with its reply."""
        self._number += 1
        number = str(self._number)
        sent = osmocom_ctrl.request(self._number, verb, variable, value)
        waiting: Deferred[osmocom_ctrl.CtrlReply] = Deferred(lambda _: self._forget(number))
        self._waiting[number] = waiting
        assert self.transport is not None
        self.transport.write(sent)
        return waiting

    def _forget(self, number: str) -> None:
        self._waiting.pop(number, None)

    def dataReceived(self, data: bytes) -> None:
        """Pass each reply to what waits for it; drop a late one."""
        try:
            replies = self._decoder.receive(data)
        except NetworkUnavailable:
            self.lose(Failure())
            self.abort()
            return
        for reply in replies:
            waiting = self._waiting.pop(reply.id, None)
            if waiting is not None:
                waiting.callback(reply)

    def lose(self, why: Failure) -> None:
        """Fail what waits."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.errback(why)


class _Console(_Lossy):
    """One console session: at the first prompt the question, at the second one all is there."""

    def __init__(self, clock: Any, seconds: float, command: bytes) -> None:
        self._command = command
        self.done: Deferred[bytes] = Deferred()
        self._clock = clock
        self._seconds = seconds
        self._said = bytearray()
        self._asked = False

    def connectionMade(self) -> None:
        """Cancel ``done`` when nothing arrives for this long; a list that keeps arriving may take longer."""
        self._silence = self._clock.callLater(self._seconds, self.done.cancel)
        self.done.addBoth(self._over)

    def _over(self, result: Any) -> Any:
        if self._silence.active():
            self._silence.cancel()
        return result

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        if self.done.called:
            return
        self._silence.reset(self._seconds)
        self._said += data
        if len(self._said) > LIST_BYTES_MAX:
            self.lose(Failure(NetworkUnavailable("OsmoHLR's list does not end")))
            self.abort()
        elif osmocom_ctrl.at_prompt(bytes(self._said[-80:])):
            if self._asked:
                self.done.callback(bytes(self._said))
                return
            self._asked = True
            self._said.clear()
            assert self.transport is not None
            self.transport.write(self._command)

    def lose(self, why: Failure) -> None:
        """Fail the list."""
        if not self.done.called:
            self.done.errback(why)
