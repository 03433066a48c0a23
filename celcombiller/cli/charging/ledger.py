"""``celcombiller credit``, ``calls``, ``statement`` and ``audit``: the ledger, and one credit to it."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    LIST_MAX,
    current_operator,
    find_payer,
    open_database,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo
from celcombiller.core.audit import report as audit_report
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.request_keys import find_reference
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import TransferConflict
from celcombiller.core.ledger import accounts as ledger_accounts
from celcombiller.core.ledger import statement
from celcombiller.core.model.accounts import Kind, Transfer
from celcombiller.core.model.text import format_count
from celcombiller.core.reports.history import find_trunk_names
from celcombiller.core.selling import sales
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice import call_queries
from celcombiller.database.transaction import reading_one_snapshot, transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.selling import Receipt


OVERDUE_SHOWN = 20
"""The holds older than their validity that are shown; `--json` shows all."""


def configure_credit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``credit``."""
    parser.set_defaults(run=_credit)
    parser.add_argument("username", metavar="WHO", help="a username, or a number")
    parser.add_argument("value", type=int, metavar="VALUE", help="whole credits")
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.VOICE.value)
    parser.add_argument("--origin", default="web", metavar="TEXT")
    parser.add_argument("--id", help="your own id of this credit: repeating it changes nothing")
    parser.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    parser.add_argument("--receipt", action="store_true", help="with a receipt of this office")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def configure_calls(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``calls``."""
    parser.set_defaults(run=_calls)
    _add_list_arguments(parser)


def configure_statement(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``statement``."""
    parser.set_defaults(run=_statement)
    parser.add_argument("username")
    _add_list_arguments(parser)


def configure_audit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``audit``."""
    parser.set_defaults(run=_audit)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _add_list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _credit(arguments: argparse.Namespace, config: Config) -> int:
    """Post one credit, and record it in the audit trail."""
    operator, key = current_operator(), arguments.id or str(uuid.uuid4())

    def work(tx: sa.Connection) -> tuple[str, Transfer, Receipt | None]:
        who = find_payer(tx, arguments.username)
        request = Credit(
            username=who.username,
            kind=Kind(arguments.kind),
            value=arguments.value,
            origin=arguments.origin,
            reference=find_reference(tx, operator, key),
            note=arguments.note,
        )
        issued, now = None, datetime.now(UTC)
        if arguments.receipt:
            terms = config.selling_terms
            made, issued = sales.credit_with_receipt(tx, terms, request, operator, origin="command", now=now)
        else:
            made, _ = credit(tx, request, operator, now)
        if made.note != arguments.note:
            raise TransferConflict(f"a credit with the id {key} exists and has another note")
        return who.username, made, issued

    username, made, issued = transact(open_database(config), work)
    posted = made.credit_posted if arguments.value > 0 else made.debit_posted
    if arguments.json:
        print_json(
            {"id": key, "reference": made.reference, "username": username, "kind": arguments.kind}
            | {"value": arguments.value, "posted": posted, "note": made.note, "origin": made.origin}
            | ({} if issued is None else {"receipt": issued.label})
        )
    else:
        echo(f"{arguments.value:+} {arguments.kind} for {username}: {posted} now (id {key}).")
        if issued is not None:
            echo(f"Receipt {issued.label}.")
    return 0


def _calls(arguments: argparse.Namespace, config: Config) -> int:
    """List the last calls."""

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        found = call_queries.recent(tx, limit=arguments.limit)
        trunks = find_trunk_names(tx, [call for *_, call in found])
        return [_call(*each, trunks) for each in found]

    columns = ("started_at", "user", "name", "from", "to", "state", "talk_ms", "cost", "witness", "server", "uniqueid")
    rows = transact(open_database(config), work)
    print_rows(rows, (*columns, "trunk") if any(row["trunk"] for row in rows) else columns, as_json=arguments.json)
    return 0


def _statement(arguments: argparse.Namespace, config: Config) -> int:
    """List a subscriber's last transfers."""

    def work(tx: sa.Connection) -> list[statement.StatementLine]:
        accounts = ledger_accounts.balances(tx, subscriber_records.find(tx, arguments.username).id)
        lines = [line for each in accounts.values() for line in statement.statement(tx, each, limit=arguments.limit)]
        return sorted(lines, key=lambda line: -line.id)[: arguments.limit]

    lines = [asdict(line) for line in transact(open_database(config), work)]
    columns = ("at", "kind", "value", "posted", "origin", "reference", "note")
    print_rows(lines, columns, as_json=arguments.json)
    return 0


def _audit(arguments: argparse.Namespace, config: Config) -> int:
    """Recompute the ledger; return 1 when something differs."""
    engine, now = reading_one_snapshot(open_database(config)), datetime.now(UTC)
    report = transact(engine, lambda tx: audit_report.audit(tx, now))
    if arguments.json:
        print_json({"ok": report.ok} | asdict(report))
    else:
        counts = {
            "account": report.accounts,
            "transfer": report.transfers,
            "hold": report.holds,
            "call": report.calls,
            "scheduled credit": report.schedule_credits,
        }
        counted = ", ".join(format_count(number, noun) for noun, number in counts.items())
        outcome = "all as recorded" if report.ok else format_count(len(report.differences), "difference")
        echo(f"{counted} recomputed: {outcome}.")
        for each in report.differences[:1]:
            echo(f"First difference: {each.subject}: {each.law}; expected {each.expected}, found {each.found}.")
        for hold in report.overdue_holds[:OVERDUE_SHOWN]:
            echo(
                f"A hold is older than its validity: {hold.amount} of {hold.account} for {hold.reference}, valid until"
                f" {hold.expires_at.astimezone().isoformat(' ', 'seconds')}. The biller ends it once its use is over."
            )
        if len(report.overdue_holds) > OVERDUE_SHOWN:
            echo(f"{len(report.overdue_holds)} holds in all are older than their validity; --json lists them.")
    return DONE if report.ok else DIFFERS


def _call(user: str, name: str, call: Call, trunks: Mapping[int, str]) -> dict[str, Any]:
    return {
        "server": call.server,
        "uniqueid": call.uniqueid,
        "user": user,
        "name": name,
        "from": call.from_number,
        "to": call.to_number,
        "state": call.state,
        "started_at": call.started_at,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "talk_ms": call.talk_ms,
        "cost": call.cost,
        "witness": call.witness,
        "outcome": call.outcome,
        "note": call.note,
        "trunk": None if call.trunk_id is None else trunks[call.trunk_id],
        "trunks_tried": [trunks[each] for each in call.trunks_tried],
        "trunk_cost": call.trunk_cost,
        "margin": call.margin,
    }
