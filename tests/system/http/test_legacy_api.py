"""The original's API on PostgreSQL: what writes, tried once more as it is on SQLite."""

import pytest_twisted

from tests.rest.legacy.test_api import (  # noqa: F401  collected here with this file's biller
    every_count_is_new,
    test_a_key_moves_credit_once,
    test_a_search_changes_many_users_never_all,
    test_a_user_is_added_despite_loose_types,
    test_data_credit_finds_users_by_id_or_imsi,
    test_each_voice_movement_becomes_a_row,
    test_more_than_is_there_is_not_taken,
)
from tests.rest.legacy.test_schedules import (  # noqa: F401
    test_a_group_has_first_date_count_and_members,
    test_a_membership_is_renewed_by_search,
    test_joining_and_leaving_update_the_group,
    test_runs_are_listed_by_movement_ids,
)
from tests.support import databases
from tests.support.http.api_service import Biller, people


@pytest_twisted.async_yield_fixture
async def biller(cluster, tmp_path_factory):
    made = Biller(tmp_path_factory.mktemp("biller"), {}, databases.postgresql(cluster, people))
    await made.credit_nothing_itself()  # as in tests/rest/legacy/test_schedules.py
    yield made
    try:
        assert made.audit().ok
    finally:
        await made.stop()
