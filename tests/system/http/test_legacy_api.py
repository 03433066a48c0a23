"""The original's API on PostgreSQL: what writes, tried once more as it is on SQLite."""

import pytest_twisted

from tests.rest.legacy.test_api import (  # noqa: F401  collected here with this file's biller
    every_count_is_new,
    test_a_key_makes_a_movement_once_and_says_when_it_means_another,
    test_a_user_is_added_with_numbers_as_texts_and_texts_as_numbers,
    test_data_credit_finds_its_user_by_id_or_imsi,
    test_many_users_are_changed_by_a_search_and_never_all_by_none,
    test_more_than_is_there_is_not_taken,
    test_voice_credit_is_given_and_taken_and_each_row_is_a_movement,
)
from tests.rest.legacy.test_schedules import (  # noqa: F401
    test_a_group_has_a_first_date_a_count_and_members,
    test_a_membership_is_renewed_by_a_search_that_names_it,
    test_what_runs_moved_is_listed_by_the_movements_ids,
    test_who_comes_and_goes_is_said_to_the_group,
)
from tests.support import databases
from tests.support.api_service import Biller, people


@pytest_twisted.async_yield_fixture
async def biller(cluster, tmp_path_factory):
    made = Biller(tmp_path_factory.mktemp("biller"), {}, databases.postgresql(cluster, people))
    await made.credit_nothing_itself()  # as in tests/rest/legacy/test_schedules.py
    yield made
    try:
        assert made.audit().ok
    finally:
        await made.stop()
