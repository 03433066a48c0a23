"""Groups of subscribers: a tariff and limits in common."""

import pytest

from celcombiller.core.errors import AlreadyTaken, InUse, InvalidValue, UnknownGroup, UnknownTariff
from celcombiller.core.model.subscribers import Group
from celcombiller.core.schema.catalogue_change import last_change
from celcombiller.core.subscribers import group_records, subscriber_records
from tests.support.databases import NOW, sqlite, three_subscribers
from tests.support.tariffs import make_tariff


@pytest.fixture
def tx():
    with sqlite(fill=three_subscribers).connect() as made:
        yield made


def test_group_keeps_all_its_fields(tx):
    tariff = make_tariff(tx, NOW)
    fields = {"tariff_id": tariff.id, "calls_max": 5, "subscriber_calls_max": 1, "call_seconds_max": 60}
    made = group_records.add(
        tx, name="students", now=NOW, **fields, call_cost_max=9, barred=("+900", "0900"), allowed=()
    )
    assert made == Group(made.id, "students", tariff.id, 5, 1, ("900", "0900"), (), 60, 9)
    assert group_records.find(tx, "students") == group_records.find_by_id(tx, made.id) == made
    changed = group_records.change(tx, made.id, {"calls_max": None, "barred": (), "allowed": ["55"]}, NOW)
    assert (changed.calls_max, changed.barred, changed.allowed) == (None, (), ("55",))


@pytest.mark.parametrize(
    "fields",
    [{"name": ""}, {"name": "a\nb"}, {"calls_max": -1}, {"call_cost_max": 2**31}, {"barred": ["x"]}, {"allowed": [""]}],
)
def test_impossible_fields_are_refused(tx, fields):
    with pytest.raises(InvalidValue):
        group_records.add(tx, **{"name": "students", **fields}, now=NOW)


def test_group_name_and_tariff_are_checked(tx):
    group_records.add(tx, name="students", now=NOW)
    with pytest.raises(AlreadyTaken):
        group_records.add(tx, name="students", now=NOW)
    with pytest.raises(UnknownTariff):
        group_records.add(tx, name="others", tariff_id=7, now=NOW)


def test_group_with_members_is_not_deleted(tx):
    group = group_records.add(tx, name="students", now=NOW)
    subscriber_records.change(tx, "u1001", {"group_id": group.id}, NOW)
    assert group_records.count_members(tx, [group.id]) == {group.id: 1}
    with pytest.raises(InUse, match="has 1 member:"):
        group_records.delete(tx, group.id, NOW)
    subscriber_records.change(tx, "u1001", {"group_id": None}, NOW)
    group_records.delete(tx, group.id, NOW)
    with pytest.raises(UnknownGroup):
        group_records.find(tx, "students")


def test_every_change_of_groups_is_counted(tx):
    group = group_records.add(tx, name="students", now=NOW)
    group_records.change(tx, group.id, {"calls_max": 1}, NOW)
    group_records.delete(tx, group.id, NOW)
    assert last_change(tx) == 3


def test_subscriber_gets_tariff_group_and_limits(tx):
    tariff, group = make_tariff(tx, NOW), group_records.add(tx, name="students", now=NOW)
    terms = {"tariff_id": tariff.id, "group_id": group.id, "calls_max": 2, "barred": ["+900"], "allowed": []}
    changed = subscriber_records.change(tx, "u1001", terms, NOW)
    assert changed == subscriber_records.find(tx, "u1001")
    assert (changed.tariff_id, changed.group_id, changed.calls_max) == (tariff.id, group.id, 2)
    assert (changed.barred, changed.allowed) == (("900",), ())


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"tariff_id": 9}, UnknownTariff),
        ({"group_id": 9}, UnknownGroup),
        ({"calls_max": -1}, InvalidValue),
        ({"barred": ["x"]}, InvalidValue),
    ],
)
def test_impossible_terms_are_refused(tx, terms, error):
    with pytest.raises(error):
        subscriber_records.change(tx, "u1001", terms, NOW)
