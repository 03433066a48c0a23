"""schemathesis again, with PostgreSQL behind the biller: it is stricter than SQLite about texts, numbers and times."""

import pytest
import pytest_twisted

from tests.support import databases
from tests.support.http.api_service import Biller, people
from tests.support.http.schemathesis_run import fill, run, token_of
from tests.support.properties import share


@pytest.mark.nightly  # two minutes; the same on SQLite is asked on each run
@pytest_twisted.ensureDeferred
async def test_no_answer_differs_from_its_description_on_postgresql(cluster, tmp_path):
    biller = Biller(tmp_path, {}, databases.postgresql(cluster, people))
    try:
        await fill(biller)
        for username, is_administrator in (("clara", False), ("admin", True)):
            secret = await token_of(biller, username)
            status, said = await run(
                biller,
                tmp_path,
                secret,
                examples=share(0.05).max_examples,
                phases="coverage,fuzzing",
                administrator=is_administrator,
            )
            assert status == 0, said
        assert biller.audit().ok
    finally:
        await biller.stop()
