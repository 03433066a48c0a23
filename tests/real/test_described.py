"""schemathesis again, with PostgreSQL behind the biller: it is stricter than SQLite about texts, numbers and times."""

import pytest_twisted
from described import fill, run, token_of
from resting import Biller


@pytest_twisted.ensureDeferred
async def test_no_answer_is_a_fault_or_other_than_described_on_postgresql_either(cluster, tmp_path):
    biller = Biller(tmp_path, {}, cluster.database())
    try:
        await fill(biller)
        for username, is_administrator in (("clara", False), ("admin", True)):
            secret = await token_of(biller, username)
            status, said = await run(
                biller, tmp_path, secret, examples=5, phases="coverage,fuzzing", administrator=is_administrator
            )
            assert status == 0, said
        assert biller.audit().ok
    finally:
        await biller.stop()
