"""Process a batch of charging requests in one transaction: load, decide in memory, save.

Loading and saving are a few set-wise statements, however many requests there are. Deciding is pure: values in, values
out, by `VoiceCharging`, `MessageCharging` and `DataCharging`. Each request gets its own answer or its own refusal, so
a request that is refused does not affect the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, assert_never

from celcombiller.core.bundles.pots import load_pots, pots_from_rows, query_pots
from celcombiller.core.catalogue.catalogue import Catalogue
from celcombiller.core.charging.admission import CallAdmission
from celcombiller.core.charging.payer_memory import Guess, PayerMemory
from celcombiller.core.charging.requests import CallAnswered, Credit, Initiate, TakeTrunk, Terminate, Update
from celcombiller.core.charging.updates import CallUpdates
from celcombiller.core.charging.voice import VoiceCharging
from celcombiller.core.data.accounting_reports import NasRestart, StaleSession, Usage
from celcombiller.core.data.charging import DataCharging
from celcombiller.core.data.session import DataState, find_payer
from celcombiller.core.data.session_records import DataSessionRecords
from celcombiller.core.errors import BillerError, UnknownSubscriber
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallState
from celcombiller.core.rating.numbering import AS_DIALLED, normalise
from celcombiller.core.routing.open_calls import count_open_calls
from celcombiller.core.schema import bulk, tables
from celcombiller.core.sms.charging import MessageCharging, MessageOutcome, MessageSubmission, refund_of, shares_of
from celcombiller.core.sms.message_records import MessageRecords
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.core.voice.call_records import CallRecords

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.charging.payer_memory import PayerKey
    from celcombiller.core.charging.requests import ChargingPolicy, Outcome, Request, Result
    from celcombiller.core.data.accounting_reports import Report
    from celcombiller.core.model.accounts import Transfer
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan


def process_batch(
    tx: Connection,
    policy: ChargingPolicy,
    requests: Sequence[Request],
    now: datetime,
    *,
    commits: bool = False,
    save: bool = True,
) -> list[Result]:
    """Process requests on an open transaction; return their answers and refusals, in the order of the requests.

    ``commits``: the transaction has nothing else to do, and may be committed here. Without ``save`` nothing is written:
    the answers are what they would be.
    """
    batch = ChargingBatch.load(
        tx,
        requests,
        sms_account=policy.messages.account,
        catalogue=policy.catalogue.current,
        today=now.astimezone(policy.time_zone).date(),
        numbering=policy.numbering,
        memory=policy.payers,
    )
    results = [batch.process(policy, request, now) for request in requests]
    if save:
        batch.save(tx, commits=commits)
    return results


@dataclass(slots=True)
class BatchKeys:
    """What the requests of a batch name: the keys of the rows to read, and who may pay."""

    identities: set[str] = field(default_factory=set)
    uniqueids: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    transfers: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    restarted: set[str] = field(default_factory=set)
    payers: list[tuple[str, str, Kind]] = field(default_factory=list)
    """Account code, caller number, and the kind of the account that pays."""
    calls: list[Initiate] = field(default_factory=list)
    """The calls to be admitted."""
    trunks: set[int] = field(default_factory=set)
    """The trunks that open calls may take next."""
    updates: set[tuple[str, str]] = field(default_factory=set)
    """The server and uniqueid of each call whose grant is to be renewed or limited."""
    users: list[tuple[str, ...]] = field(default_factory=list)
    """The identities under which a data session's user may be known, the best first."""
    charged: set[str] = field(default_factory=set)
    """The uniqueids of the calls whose holds may change."""
    known: list[Call] = field(default_factory=list)
    """Calls that may end, as the senders know them."""
    can_guess: bool = True
    """Whether a payer memory may know all the accounts and holds: not those of requests that name only a record."""

    def add_call(self, request: Initiate) -> None:
        """Add the subscribers of a call to be admitted."""
        self.identities.update((request.account_code, request.caller_number, request.called_number))
        self.payers.append((request.account_code, request.caller_number, Kind.VOICE))

    def add_open_call(self, request: Update | CallAnswered | TakeTrunk) -> None:
        """Add a call in progress, and by what it goes on."""
        self.uniqueids.add(request.uniqueid)
        if isinstance(request, Update):
            self.charged.add(request.uniqueid)
            self.can_guess = False
            self.updates.add((request.server, request.uniqueid))
        elif isinstance(request, TakeTrunk):
            self.trunks.update(request.trunk_ids)

    def add_end(self, request: Terminate) -> None:
        """Add a call that ended, and who pays where it was not admitted."""
        self.uniqueids.add(request.uniqueid)
        self.charged.add(request.uniqueid)
        if request.known is None:
            self.can_guess = False
        else:
            self.known.append(request.known)
        if request.unauthorized_request is not None:
            self.add_call(request.unauthorized_request)

    def add_message(self, request: MessageSubmission, account: Kind) -> None:
        """Add a message to be sent, paid from the ``account`` of this kind."""
        self.messages.add(request.reference)
        self.identities.update((request.account_code, request.caller_number, request.to_number))
        if not request.free:
            self.payers.append((request.account_code, request.caller_number, account))

    def add_credit(self, request: Credit) -> None:
        """Add a credit and whose it is."""
        self.transfers.add(request.reference)
        self.identities.add(request.username)
        self.payers.append((request.username, "", request.kind))

    def add_report(self, report: Report) -> None:
        """Add a data session and its user, or the NAS whose sessions are over."""
        self.can_guess = False
        if isinstance(report, NasRestart):
            self.restarted.add(report.nas)
            return
        if isinstance(report, StaleSession):
            self.sessions.add(report.key)
        else:
            self.sessions.update(report.keys)
            self.identities.update(report.identities)
            self.users.append(report.identities)


@dataclass(slots=True)
class ChargingBatch:
    """What one batch works on: subscribers, their accounts, and the charging of calls, messages and data sessions."""

    directory: Directory
    book: Book
    voice: VoiceCharging
    updates: CallUpdates
    sms: MessageCharging
    data: DataCharging

    @classmethod
    def load(
        cls,
        tx: Connection,
        requests: Iterable[Request],
        *,
        sms_account: Kind = Kind.VOICE,
        catalogue: Catalogue | None = None,
        today: date | None = None,
        numbering: NumberingPlan = AS_DIALLED,
        memory: PayerMemory | None = None,
    ) -> ChargingBatch:
        """Read what the requests name; lock calls, messages, data sessions, then accounts.

        ``sms_account``: the kind of the account that pays for new messages; a known message has its own account. With a
        ``memory`` of payers all of it is mostly read by the first statement.
        """
        keys = _named(requests, sms_account)
        memory = memory or PayerMemory()
        guess, book = _guess(keys, memory), Book(today=today)
        directory, calls, messages, sessions, pots = _read(tx, keys, numbering, guess, book)
        accounts, holds, bundled = set[int](), set[str](), set[int]()
        paid = _add_payers(keys, directory, accounts, bundled)
        _add_known(keys, calls, messages, sessions, accounts, holds, bundled)
        payers = _load_payers(tx, keys, calls, bundled)
        unread = bundled - guess.bundled
        if unread:
            pots |= load_pots(tx, unread)
        accounts.update(pot.account_id for each in pots.values() for pot in each)
        if not (accounts <= book.accounts.keys() and holds <= book.holds.keys()):
            book.load(tx, accounts, holds)
        for key, account_id, payer_id in paid:
            of_bundles = [pot.account_id for pot in pots.get(payer_id, ())]
            memory.remember(key, (account_id, *of_bundles), payer_id if payer_id in bundled else None)
        refunds = set()
        if keys.messages:
            if any(each.bundles for each in messages):  # a refund goes to none that ended before its account was locked
                pots = load_pots(tx, bundled)
            refunds = {refund_of(reference) for each in messages for reference, _, _ in shares_of(each)}
        if refunds or keys.transfers:
            book.load_transfers(tx, keys.transfers | refunds)
        admission = _load_admission(tx, catalogue, keys, directory, numbering)
        open_calls = _count_sharers(tx, keys, directory, payers, book)
        return cls(
            directory,
            book,
            VoiceCharging(directory, book, calls, admission, pots, open_calls),
            CallUpdates(book, calls, admission, pots, payers, open_calls),
            MessageCharging(directory, book, messages, pots),
            DataCharging(directory, book, sessions, pots, catalogue),
        )

    def process(self, policy: ChargingPolicy, request: Request, now: datetime) -> Result:
        """Decide one request in memory; a refusal is returned, and changes nothing."""
        answer: Outcome
        try:
            match request:
                case Initiate():
                    answer = self.voice.initiate(policy, request, now)
                case Update():
                    answer = self.updates.update(policy, request, now)
                case CallAnswered() | TakeTrunk():
                    answer = self.voice.record(request)
                case Terminate():
                    answer = self.voice.terminate(policy, request, now)
                case Credit():
                    answer = self.credit(request, now)
                case MessageSubmission():
                    answer = self.sms.send(policy.messages, request, now, policy.catalogue.current)
                case MessageOutcome():
                    answer = self.sms.apply_outcome(request, now)
                case Usage() | NasRestart() | StaleSession():
                    answer = self.data.process(request, now)
                case _:
                    assert_never(request)
        except BillerError as refusal:
            return refusal
        return answer

    def credit(self, request: Credit, now: datetime) -> Transfer:
        """Post a credit, or a debit where it is negative, in memory, once for its reference.

        Raises `UnknownSubscriber`, and what `Book.post` raises.
        """
        subscriber = self.directory.find_payer(request.username, "")
        if subscriber is None or subscriber.username != request.username:
            raise UnknownSubscriber(f"no subscriber is called {request.username}")
        own = self.directory.account_ids[subscriber.id, request.kind]
        operators = tables.OPERATOR_ACCOUNT_IDS[request.kind]
        debit, credit = (operators, own) if request.value >= 0 else (own, operators)
        return self.book.post(
            request.reference,
            debit,
            credit,
            abs(request.value),
            origin=request.origin,
            now=now,
            note=request.note,
        )

    def save(self, tx: Connection, *, commits: bool = False) -> None:
        """Write what changed; ``commits``: see `bulk.write`."""
        calls, messages, sessions = self.voice.calls, self.sms.messages, self.data.sessions
        writes = chain(calls.changes(), messages.changes(), sessions.changes(), self.book.changes())
        bulk.write(tx, writes, commits=commits)


def _named(requests: Iterable[Request], sms_account: Kind) -> BatchKeys:
    """Return what the requests name."""
    keys = BatchKeys()
    for request in requests:
        match request:
            case Initiate():
                keys.uniqueids.add(request.uniqueid)
                keys.charged.add(request.uniqueid)
                keys.calls.append(request)
                keys.add_call(request)
            case Update() | CallAnswered() | TakeTrunk():
                keys.add_open_call(request)
            case Terminate():
                keys.add_end(request)
            case Credit():
                keys.add_credit(request)
            case MessageSubmission():
                keys.add_message(request, sms_account)
            case MessageOutcome():
                keys.messages.add(request.reference)
                keys.can_guess = False
            case Usage() | NasRestart() | StaleSession():
                keys.add_report(request)
            case _:
                assert_never(request)
    return keys


def _guess(keys: BatchKeys, memory: PayerMemory) -> Guess:
    """Return what the requests will probably need; nothing, unless it is known for all of them.

    So the accounts of a batch are mostly locked by one statement, in the order of their ids.
    """
    guess = Guess()
    if not keys.can_guess or not memory.recall(keys.payers, guess):
        return Guess()
    for call in keys.known:
        guess.accounts.update((call.account_id, *call.bundles))
        guess.holds.update(call.hold_references)
    return guess


def _read(
    tx: Connection, keys: BatchKeys, numbering: NumberingPlan, guess: Guess, book: Book
) -> tuple[Directory, CallRecords, MessageRecords, DataSessionRecords, dict[int, list[BundlePot]]]:
    """Read the rows of these keys, and what they are guessed to need, in one statement."""
    others: tuple[bulk.BoundQuery, ...] = ()
    if keys.messages or keys.sessions or keys.restarted:
        others = (
            MessageRecords.query(keys.messages),
            *DataSessionRecords.queries(keys.sessions, keys.restarted),
        )
    subscribers, calls, *found, pots, accounts, holds = bulk.read(
        tx,
        Directory.query_identities(keys.identities, numbering),
        CallRecords.query(keys.uniqueids),
        *others,
        query_pots(guess.bundled),
        *book.queries(guess.accounts, guess.holds),
    )
    book.add_rows(accounts, holds)
    return (
        Directory.from_rows(subscribers, numbering),
        CallRecords.from_rows(calls),
        MessageRecords.from_rows(found[0]) if found else MessageRecords(),
        DataSessionRecords.from_rows(chain.from_iterable(found[1:])) if found else DataSessionRecords(),
        pots_from_rows(pots) if pots else {},
    )


def _load_admission(
    tx: Connection, catalogue: Catalogue | None, keys: BatchKeys, directory: Directory, numbering: NumberingPlan
) -> CallAdmission:
    """Return the limits and routes of the calls of a batch, whose payers' accounts are locked."""
    if catalogue is None or not (keys.calls or keys.trunks):
        return CallAdmission(catalogue or Catalogue())
    wanted = []
    are_limited = any(trunk.calls_max is not None for trunk in catalogue.trunks.values())
    for request in keys.calls:
        payer = directory.find_payer(request.account_code, request.caller_number)
        if payer is not None:
            is_off_net = are_limited and directory.find_callee(request.called_number) is None
            wanted.append((payer, normalise(numbering, plain_number(request.called_number)) if is_off_net else ""))
    return CallAdmission.load(tx, catalogue, wanted, keys.trunks)


def _load_payers(tx: Connection, keys: BatchKeys, calls: CallRecords, bundled: set[int]) -> dict[int, Subscriber]:
    """Return who pays for the calls to be updated, by id, and add those of them who have bundles."""
    if not keys.updates:
        return {}
    paying = {call.subscriber_id for call in calls if (call.server, call.uniqueid) in keys.updates}
    directory = Directory.load_ids(tx, paying)
    bundled |= directory.with_bundles
    return {payer.id: payer for payer in directory}


def _count_sharers(
    tx: Connection, keys: BatchKeys, directory: Directory, payers: Iterable[int], book: Book
) -> dict[int, int]:
    """Return how many open calls each of those has who may have to share; where nothing is held, nothing is shared."""
    sharers = set(payers)
    for request in keys.calls:
        if request.slice_seconds:
            payer = directory.find_payer(request.account_code, request.caller_number)
            if payer is not None and book.accounts[directory.account_ids[payer.id, Kind.VOICE]].held:
                sharers.add(payer.id)
    return count_open_calls(tx, sharers) if sharers else {}


def _add_payers(
    keys: BatchKeys, directory: Directory, accounts: set[int], bundled: set[int]
) -> list[tuple[PayerKey, int, int]]:
    """Add the accounts of who pays for what is new, and those of them who have bundles.

    Return the account and the subscriber of each key that has a payer.
    """
    paid = []
    for key in keys.payers:
        code, number, kind = key
        payer = directory.find_payer(code, number)
        if payer is not None:
            account_id = directory.account_ids[payer.id, kind]
            paid.append((key, account_id, payer.id))
            accounts.add(account_id)
            if payer.id in directory.with_bundles:
                bundled.add(payer.id)
    for identities in keys.users:
        payer = find_payer(directory, identities)
        if payer is not None:
            accounts.add(directory.account_ids[payer.id, Kind.DATA])
            if payer.id in directory.with_bundles:
                bundled.add(payer.id)
    return paid


def _add_known(
    keys: BatchKeys,
    calls: CallRecords,
    messages: MessageRecords,
    sessions: DataSessionRecords,
    accounts: set[int],
    holds: set[str],
    bundled: set[int],
) -> None:
    """Add the accounts that pay for what is known already, the holds that may end, and who may get bundles back."""
    for call in calls:
        if call.uniqueid not in keys.charged:
            continue
        if call.state is not CallState.SETTLED:
            accounts.update((call.account_id, *call.bundles))
        if call.state is CallState.OPEN:
            holds.update(call.hold_references)
    for message in messages:
        for reference, account_id, _ in shares_of(message):
            accounts.add(account_id)
            holds.add(reference)
        if message.bundles and message.subscriber_id is not None:
            bundled.add(message.subscriber_id)
    for session in sessions:
        accounts.add(session.account_id)
        if session.state is DataState.OPEN:
            accounts.update(account_id for account_id, _ in session.shares)
            holds.update(session.hold_references)
