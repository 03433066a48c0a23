"""Write the users of a converted file as subscribers: those who exist already, those to make, and conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level, make_search_text
from celcombiller.core.schema import tables
from celcombiller.legacy_import.convert_users import check_password
from celcombiller.legacy_import.findings import Oddity
from celcombiller.legacy_import.imported_rows import ImportReport, References, split_in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.legacy_import.conversion import ConvertedFile, Progress
    from celcombiller.legacy_import.convert_users import NewSubscriber

_IDENTITIES = ("username", "clid", "imsi")
_UNSET_IDENTITIES = ("0", "000000000000000")
"""Number and IMSI of the administrator that ``init`` makes."""

_table = tables.subscriber


class SubscriberWriter:
    """Decides at once what each user becomes, from the subscribers that exist; `write` makes the new ones.

    ``ids`` are the subscribers by the old ids of the users; ``here_before`` are the users of earlier imports.
    """

    def __init__(self, tx: Connection, converted: ConvertedFile, references: References, report: ImportReport) -> None:
        self._converted = converted
        self._references = references
        self._report = report
        self.ids: dict[int, int] = {}
        self.here_before: set[int] = set()
        self.new: list[NewSubscriber] = []
        self._adopted: list[tuple[int, NewSubscriber]] = []
        columns = ("id", "level", "deleted_at", *_IDENTITIES, "cpf")
        everybody = tx.execute(sa.select(*(_table.c[name] for name in columns))).all()
        self._by_id = {row.id: row for row in everybody}
        living = [row for row in everybody if row.deleted_at is None]
        self._by = {name: {getattr(row, name): row for row in living} for name in (*_IDENTITIES, "cpf")}
        for user in converted.users.values():
            self._decide(user)

    def _decide(self, user: NewSubscriber) -> None:
        before = self._references.find_earlier(user.row)
        if before is not None:
            self._recognise(user, before)
            return
        alike = {row.id: row for name in _IDENTITIES if (row := self._by[name].get(getattr(user, name)))}
        if not alike:
            self.new.append(user)
            return
        row = next(iter(alike.values()))
        same = all(getattr(row, name) == getattr(user, name) for name in _IDENTITIES)
        unnumbered = len(alike) == 1 and (row.username, row.clid, row.imsi) == (user.username, *_UNSET_IDENTITIES)
        if same:
            self._report.findings.note(Oddity.MATCHED, f"{user.username} ({user.row})")
        elif unnumbered and row.level == user.level == Level.ADMINISTRATOR:
            self._report.findings.note(Oddity.ADOPTED, f"{user.username} ({user.row}): {user.clid}, {user.imsi}")
            self._adopted.append((row.id, user))
        else:
            self._report.findings.note(Oddity.CONFLICT, f"{user.username} ({user.row}): {self._conflicts_of(user)}")
            return
        self._report.known["users"] += 1
        self.ids[user.old_id] = row.id
        self._references.record(user.row, row.id)

    def _recognise(self, user: NewSubscriber, subscriber_id: int) -> None:
        row = self._by_id[subscriber_id]
        if not any(getattr(row, name) == getattr(user, name) for name in _IDENTITIES):
            raise InvalidValue(
                f"user {user.old_id} of the file imported before is {row.username}, of this one {user.username}:"
                " if it is another file, give it a --source of its own"
            )
        self._report.known["users"] += 1
        self.here_before.add(user.old_id)
        if row.deleted_at is None:
            self.ids[user.old_id] = subscriber_id

    def _conflicts_of(self, user: NewSubscriber) -> str:
        taken = ((name, getattr(user, name)) for name in _IDENTITIES if getattr(user, name) in self._by[name])
        return ", ".join(f"{name} {value} is {self._by[name][value].username}'s" for name, value in taken)

    def write(self, tx: Connection, password_hashes: Mapping[int, str], progress: Progress) -> None:
        """Make the new subscribers, with an empty account of each kind, and complete adopted administrators."""
        for subscriber_id, user in self._adopted:
            values = self._values(user, subscriber_id)
            facts = {name: values[name] for name in ("clid", "imsi", "cpf", "name", "address")}
            facts["search_text"] = make_search_text(values | {"username": user.username})
            tx.execute(sa.update(_table).where(_table.c.id == subscriber_id).values(facts))
        for chunk in split_in_chunks(progress(self.new, "Subscribers", len(self.new))):
            made = [
                self._values(user)
                | {"username": user.username, "level": user.level, "enabled": True}
                | {"password_hash": password_hashes.get(user.old_id), "created_at": self._converted.now}
                for user in chunk
            ]
            rows = tx.execute(sa.insert(_table).returning(_table.c.id, _table.c.username), made)
            ids = {row.username: row.id for row in rows}
            tx.execute(sa.insert(tables.account), _empty_accounts(ids.values()))
            for user in chunk:
                check_password(user, self._report.findings)
                self.ids[user.old_id] = ids[user.username]
                self._references.record(user.row, ids[user.username])
        self._report.made["users"] += len(self.new)

    def _values(self, user: NewSubscriber, subscriber_id: int | None = None) -> dict[str, Any]:
        cpf = user.cpf
        holder = self._by["cpf"].get(cpf) if cpf else None
        if holder is not None and holder.id != subscriber_id:
            self._report.findings.note(
                Oddity.CPF_DROPPED, f"{user.username} ({user.row}): {cpf} is {holder.username}'s"
            )
            cpf = None
        return {"name": user.name, "clid": user.clid, "imsi": user.imsi, "cpf": cpf, "address": user.address}


def _empty_accounts(subscriber_ids: Iterable[int]) -> list[dict[str, Any]]:
    return [
        {"subscriber_id": subscriber_id, "kind": kind, "posted": 0, "held": 0}
        for subscriber_id in subscriber_ids
        for kind in Kind
    ]
