"""``celcombiller token``: add, list and revoke API tokens."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from celcombiller.cli.common import add_command, current_operator, open_database, print_rows, whole_number
from celcombiller.cli.terminal import echo
from celcombiller.core.access import tokens
from celcombiller.core.access.principal import Scope
from celcombiller.core.access.tokens import NewToken
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.http.decoding import convert_fields
from celcombiller.http.route import ID_MAX
from celcombiller.runtime.credentials.token_secrets import make_token_secret

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.access.tokens import Token

DAYS_MAX = 36_500


def _add(arguments: argparse.Namespace, config: Config) -> int:
    wanted = convert_fields(NewToken, {"name": arguments.name, "scopes": arguments.scope, "username": arguments.user})
    now, secret = datetime.now(UTC), make_token_secret()
    expires_at = None if arguments.days is None else now + timedelta(days=arguments.days)

    def work(tx: sa.Connection) -> Token:
        owner = subscriber_records.find(tx, arguments.user)
        return tokens.make_token(
            tx,
            current_operator(),
            secret,
            owner.id,
            name=wanted.name,
            scopes=wanted.scopes,
            expires_at=expires_at,
            now=now,
        )

    made = transact(open_database(config), work)
    echo(f"Token {made.id} of {made.username}, for {', '.join(made.scopes)} (shown this once; only its hash is kept):")
    echo(secret)
    return 0


def _list(arguments: argparse.Namespace, config: Config) -> int:
    rows = [asdict(each) | {"scopes": " ".join(each.scopes)} for each in transact(open_database(config), tokens.tokens)]
    columns = ("id", "name", "username", "scopes", "created_at", "expires_at", "revoked_at")
    print_rows(rows, columns, as_json=arguments.json)
    return 0


def _revoke(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Token:
        return tokens.revoke_token(tx, current_operator(), arguments.id, now)

    revoked = transact(open_database(config), work)
    echo(f"Token {revoked.id} ({revoked.name}) is revoked.")
    return 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``token``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = add_command(actions, "add", _add, "Make a token; its secret is shown only now.")
    add.add_argument("name", help="the purpose of the token")
    add.add_argument(
        "--user", required=True, metavar="USERNAME", help="the owner; the token may do at most what its owner may"
    )
    scopes = [each.value for each in Scope]
    add.add_argument(
        "--scope", action="append", required=True, choices=scopes, help="what the token allows; may be repeated"
    )
    add.add_argument(
        "--days", type=whole_number(1, DAYS_MAX), help="how many days it is valid (default: until it is revoked)"
    )
    listed = add_command(actions, "list", _list, "List the tokens, the revoked ones too.")
    listed.add_argument("--json", action="store_true", help="one JSON document")
    revoke = add_command(actions, "revoke", _revoke, "Revoke a token, at once.")
    revoke.add_argument("id", type=whole_number(1, ID_MAX), metavar="ID")
