"""schemathesis against a running biller: it asks all that the description allows and much that it does not, and judges.

It is run twice. As a collaborator it may do everything but lose its own token or an administrator, so no answer of
the rest is hidden behind 401. As an administrator it asks what only those may.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from twisted.internet.utils import getProcessOutputAndValue

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import TERMS, ended, initiate
from tests.rest.v1.test_transfers import give

PROGRAM = Path(sys.executable).with_name("schemathesis")
NOT_GUESSED = 987_654_000
"""The token that it asks with has a number beyond: were it revoked on the way, all further answers would be 401."""

FOR_ADMINISTRATORS = (
    "/api/v1/tokens",
    "/api/v1/tokens/{id}",
    "/api/v1/settings",
    "/api/v1/trail",
    "/api/v1/subscribers/{username}/accounts/{kind}",
)

SETTINGS = """
seed = 1
continue-on-failure = true
workers = 1
warnings = false
[generation]
deterministic = true
no-shrink = true
[phases.fuzzing]
extra-data-sources = { responses = false }
[phases.coverage]
extra-data-sources = { responses = false }
# A cursor is a text that a list gave before, and a number wants a time or a subscriber with it: no schema says so.
[[operations]]
include-method = "GET"
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 422]
# Nor that a token's end must be to come, or which recurrence wants a day and which an interval.
[[operations]]
include-name = ["POST /api/v1/tokens", "POST /api/v1/schedules", "PATCH /api/v1/schedules/{id}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]
# Nor which services a kind of bundle pays for, that its beginning must be near, and who has enough to buy one.
[[operations]]
include-name = ["POST /api/v1/bundles", "PATCH /api/v1/bundles/{id}", "POST /api/v1/me/bundles"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]
[[operations]]
include-name = ["POST /api/v1/subscribers/{username}/bundles", "POST /api/v1/bundles/plan"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]
[[operations]]
include-name = ["POST /api/v1/offers", "PATCH /api/v1/offers/{id}", "DELETE /api/v1/offers/{id}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]
# Nor which passwords and PINs are guessed first, nor that one's own needs the old one.
[[operations]]
include-name = ["POST /api/v1/subscribers", "PATCH /api/v1/subscribers/{username}", "PUT /api/v1/subscribers/{username}/pin"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]
# Nor that a debit has no receipt.
[[operations]]
include-name = ["POST /api/v1/transfers", "POST /api/v1/transfers/plan"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]
# Nor what the rows of a file must be.
[[operations]]
include-name = ["POST /api/v1/subscribers.csv"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 409, 422]
# Nor that the reason to hang up must stand in the query or in the body.
[[operations]]
include-name = ["DELETE /api/v1/live/{id}"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 422]
# Nor that no text of a body may have a NUL character.
[[operations]]
include-name = ["POST /login"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 403, 404, 429]
# Nor whom a message or a call reaches, and that who was disabled a moment ago sends none.
[[operations]]
include-name = ["POST /api/v1/messages", "POST /api/v1/rate"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 422]
"""


async def token_of(biller, username):
    """Make a token that may do all that its owner may, and put it under a number of its own."""
    admin = await biller.logged_in("admin")
    body = {"name": "schemathesis", "scopes": ["admin"], "username": username}
    made = (await admin.post("/api/v1/tokens", body)).body
    number = made["token"]["id"]
    kept = sa.update(tables.token).where(tables.token.c.id == number).values(id=NOT_GUESSED + number)
    transact(biller.engine, lambda tx: tx.execute(kept))
    return made["secret"]


async def fill(biller):
    """Move some credit and make a call, so that there is something to see."""
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    await give(admin, 50, "data", kind="data")
    offer = {"name": "hour", "price": 10, "kind": "seconds", "amount": 3600, "valid_hours": 24}
    await admin.post("/api/v1/offers", offer)
    bundle = {"username": "ana", "name": "texts", "kind": "messages", "amount": 5, "valid_hours": 24}
    await admin.post("/api/v1/bundles", bundle, headers={"Idempotency-Key": "texts"})

    def work(tx):
        process_batch(tx, TERMS, [initiate(caller="1002", called="1003"), ended(talk_ms=9500)], datetime.now(UTC))
        process_batch(tx, TERMS, [initiate("2.0", caller="1002", called="1003")], datetime.now(UTC))

    transact(biller.engine, work)


async def run(biller, folder, secret, *, examples, phases, administrator):
    """Run it, and give what it says and whether it is content."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    chosen = [
        word for path in FOR_ADMINISTRATORS for word in ("--include-path" if administrator else "--exclude-path", path)
    ]
    chosen += [] if administrator else ["--exclude-path", "/api/v1/live/events"]  # its answer has no end
    words = [
        *("--config-file", str(settings), "run", f"{biller.base}/api/v1/openapi.json"),
        *(
            "--header",
            f"Authorization: Bearer {secret}",
            "--phases",
            phases,
            "--max-examples",
            str(examples),
            "--no-color",
        ),
        *chosen,
    ]
    output, errors, status = await getProcessOutputAndValue(
        str(PROGRAM), words, env={"PATH": "/usr/bin"}, path=str(folder)
    )
    client = biller.client()
    client.bearer = secret
    assert (await client.get("/api/v1/me")).code == 200, "the token was lost on the way"
    return status, (output + errors).decode()
