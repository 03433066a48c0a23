import pytest

from celcombiller.core.model.tariffs import Service
from celcombiller.core.tariffs import differences
from celcombiller.core.tariffs.differences import cost_of_use
from celcombiller.core.tariffs.versions import VersionChanges, key_of
from tests.support.tariff_files import rate


def find_differences(before, after):
    old, new = ({key_of(each): each for each in rates} for rates in (before, after))
    both = old.keys() & new.keys()
    return differences.find_differences(
        VersionChanges(
            added=[new[key] for key in new if key not in old],
            changed=[(old[key], new[key]) for key in new if key in both and old[key] != new[key]],
            removed=[old[key] for key in old if key not in new],
            closed=[],
        ),
        after,
    )


def test_rates_are_new_changed_gone_or_the_same():
    before = [rate("1"), rate("2", (0, 60, 10, 60)), rate("3")]
    after = [rate("1"), rate("2", (0, 60, 15, 60)), rate("4")]
    found = find_differences(before, after)
    assert found.counts == {"new": 1, "changed": 1, "gone": 1, "same": 1, "overlapping": 0, "suspicious": 0}
    assert [each.prefix for each in found.new + found.gone] == ["4", "3"]
    assert [each.per_cent for each in found.changed] == [50]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (10, 100, "costs 10 times as much"),
        (10, 99, ""),
        (100, 10, "costs 1/10 of what it did"),
        (100, 11, ""),
        (10, 0, "is free now"),
        (0, 10, ""),
    ],
)
def test_a_price_ten_times_the_old_is_suspicious(before, after, reason):
    found = find_differences([rate("1", (0, 1, before, 60))], [rate("1", (0, 1, after, 60))])
    assert [each.reason for each in found.suspicious] == ([reason] if reason else [])


def test_a_new_rate_within_another_destination_is_named():
    after = [rate("55", name="Brazil"), rate("5511", name="São Paulo"), rate("5512", name="Brazil")]
    assert find_differences([], after).overlapping == [(after[1], after[0])]


@pytest.mark.parametrize(
    ("steps", "more", "cost"),
    [
        ([(0, 60, 10, 60)], {}, 10),
        ([(0, 30, 10, 60), (30, 18, 20, 60)], {}, 17),
        ([(0, 60, 0, 60), (60, 1, 5, 60)], {"connect_fee": 3}, 3),
        ([(0, 1, 1, 60)], {"minimum_charge": 9}, 9),
        ([(0, 1, 1, 60)], {"grace": 60}, 0),
        ([(0, 100, 6, 60)], {}, 10),
        ([(0, 1, 4, 1)], {"service": Service.SMS}, 4),
    ],
)
def test_a_minute_or_message_is_what_is_compared(steps, more, cost):
    assert cost_of_use(rate("1", *steps, **more)) == cost
