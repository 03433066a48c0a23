"""``celcombiller data-sessions``: the data sessions that NASes reported, and what was charged for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celcombiller.cli.common import find_payer, open_database, print_rows, whole_number
from celcombiller.core.data.session import DataState
from celcombiller.core.reports import history
from celcombiller.core.reports.views import data_session_view
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.reports.history import RecordedSession

LIST_MAX = 1000


def _sessions(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[RecordedSession]:
        return history.list_data_sessions(
            tx,
            limit=arguments.limit,
            subscriber_id=None if arguments.user is None else find_payer(tx, arguments.user).id,
            state=None if arguments.all else DataState.OPEN,
        )

    rows = [
        msgspec.structs.asdict(data_session_view(each))
        for each in transact(open_database(config).execution_options(reading=True), work)
    ]
    columns = ("started_at", "username", "nas", "session_id", "framed_address", "state", "octets", "charged")
    print_rows(rows, (*columns, "name", "heard_at", "ended_at", "closed_by", "note"), as_json=arguments.json)
    return 0


def configure(listed: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data-sessions``."""
    listed.set_defaults(run=_sessions)
    listed.add_argument("--all", action="store_true", help="also the sessions that have ended")
    listed.add_argument("--user", metavar="WHO", help="the payer: a username or a number")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    listed.add_argument("--json", action="store_true", help="one JSON document")
