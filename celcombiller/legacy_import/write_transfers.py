"""Write the movements of a converted file as transfers, those of each account after its opening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.legacy_import.findings import Oddity
from celcombiller.legacy_import.imported_rows import ImportReport, split_in_chunks
from celcombiller.legacy_import.source_rows import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Transfer
    from celcombiller.legacy_import.conversion import ConvertedFile, Progress
    from celcombiller.legacy_import.convert_movements import Movement
    from celcombiller.legacy_import.convert_users import NewSubscriber
    from celcombiller.legacy_import.write_subscribers import SubscriberWriter

OPENING_NOTE = "what the balance was before the first movement that the original recorded"


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of an account: a movement, or its opening, which may be 0."""

    reference: str
    account_id: int
    kind: Kind
    value: int
    at: datetime
    user: NewSubscriber
    movement: Movement | None = None


class TransferWriter:
    """Posts all movements, oldest first, one chunk in a `Book` at a time."""

    def __init__(
        self, tx: Connection, converted: ConvertedFile, subscribers: SubscriberWriter, report: ImportReport
    ) -> None:
        self._tx = tx
        self._converted = converted
        self._subscribers = subscribers
        self._report = report
        self._accounts = self._lock_accounts()
        self._changed: set[int] = set()

    def _lock_accounts(self) -> dict[tuple[int, Kind], int]:
        """Return the accounts, locked in the order of their ids, so that no deadlock with a call occurs."""
        table = tables.account
        users = {subscriber_id: old_id for old_id, subscriber_id in self._subscribers.ids.items()}
        found: dict[tuple[int, Kind], int] = {}
        for chunk in split_in_chunks(sorted(users)):
            columns = (table.c.id, table.c.subscriber_id, table.c.kind)
            mine = sa.select(*columns).where(table.c.subscriber_id.in_(chunk), table.c.kind.in_(KINDS))
            for row in self._tx.execute(mine.order_by(table.c.id).with_for_update()):
                found[users[row.subscriber_id], Kind(row.kind)] = row.id
        return found

    def write(self, progress: Progress) -> None:
        """Post the movements that are not posted yet."""
        total = sum(course.rows for course in self._converted.courses.values())
        for chunk in split_in_chunks(self._steps(progress(self._converted.movements(), "Movements", total))):
            self._post([step for step in chunk if step.account_id not in self._changed])

    def _steps(self, movements: Iterable[Movement]) -> Iterator[_Step]:
        prefix, opened = self._converted.terms.prefix, set[tuple[int, Kind]]()
        for each in movements:
            key = each.user_id, each.kind
            account_id = self._accounts.get(key)
            if account_id is None:
                continue
            if key not in opened:
                opened.add(key)
                yield self._opening(*key, self._converted.courses[key].first_at)
            user = self._converted.users[each.user_id]
            yield _Step(prefix + each.row, account_id, each.kind, each.value, each.at, user, each)
        for key in self._accounts:
            if key not in opened:
                yield self._opening(*key, self._converted.now)

    def _opening(self, old_id: int, kind: Kind, at: datetime) -> _Step:
        user = self._converted.users[old_id]
        reference = f"{self._converted.terms.prefix}{user.row}:{kind}"
        return _Step(reference, self._accounts[old_id, kind], kind, self._converted.opening(user, kind), at, user)

    def _post(self, steps: list[_Step]) -> None:
        book = Book()
        book.load(self._tx, {step.account_id for step in steps})
        if self._subscribers.here_before:
            book.load_transfers(self._tx, [step.reference for step in steps])
        details = []
        for step in steps:
            if step.account_id in self._changed:
                continue
            recorded = _signed_value(book.transfers.get(step.reference), step.account_id)
            first = step.movement is None and step.user.old_id not in self._subscribers.here_before
            table = "opening" if step.movement is None else step.movement.row.partition(":")[0]
            if recorded == step.value:
                self._report.known[table] += bool(recorded)
            elif recorded or (step.movement is None and not first):
                self._changed.add(step.account_id)
                self._report.findings.note(Oddity.CHANGED, f"{step.user.username} ({step.user.row}): {step.kind}")
            else:
                self._record(book, step)
                self._report.made[table] += 1
                details += self._detail(step)
        book.save(self._tx)
        if details:
            self._tx.execute(sa.insert(tables.transfer_detail), details)

    def _record(self, book: Book, step: _Step) -> None:
        operator_id = tables.OPERATOR_ACCOUNT_IDS[step.kind]
        debit, credit = (operator_id, step.account_id) if step.value > 0 else (step.account_id, operator_id)
        below = step.value < 0 and book.accounts[step.account_id].available + step.value < 0
        note = step.movement.note if step.movement else OPENING_NOTE
        if below:
            note = "; ".join(filter(None, (note, "below zero, as in the original")))
            if step.movement is not None:
                self._report.findings.note(Oddity.BELOW_ZERO, f"{step.user.username} ({step.movement.row})")
        book.post(
            step.reference,
            debit,
            credit,
            abs(step.value),
            origin=step.movement.origin if step.movement else "opening",
            now=step.at,
            note=note,
            beyond_floor=below,
        )
        self._report.credits[step.kind] += step.value

    def _detail(self, step: _Step) -> list[dict[str, Any]]:
        """Return the details of a movement: the callee, and the IP addresses of data."""
        movement = step.movement
        if movement is None:
            return []
        to_id = self._subscribers.ids.get(movement.to_user_id) if isinstance(movement.to_user_id, int) else None
        details = {"to_subscriber_id": to_id, "user_ip": movement.user_ip, "connection_ip": movement.connection_ip}
        details = {name: value or None for name, value in details.items()}
        return [{"reference": step.reference} | details] if any(details.values()) else []


def _signed_value(transfer: Transfer | None, account_id: int) -> int:
    """Return the value of a transfer, as the account shows it; 0 if there is none."""
    if transfer is None:
        return 0
    return transfer.amount if transfer.credit_account_id == account_id else -transfer.amount
