"""Versions of a tariff: what each has never changes once it is written, and they take effect in order."""

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.errors import InUse, InvalidValue, UnknownTariff, VersionConflict
from celcombiller.core.model.tariffs import Service
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import last_change
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.rate_records import list_rates, place_of
from celcombiller.core.tariffs.versions import NewVersion, VersionState, key_of, state_of
from tests.support.databases import NOW
from tests.support.tariffs import content, make_tariff, rate, write

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def tx(engine):
    with engine.connect() as made:
        yield made


@pytest.fixture
def tariff(tx):
    return make_tariff(tx, NOW)


def test_version_takes_effect_after_a_second(tx, tariff):
    made = write(tx, tariff.id, NOW, rate("55", 2))
    assert made.number == 1
    assert SECOND <= made.effective_at - NOW < 2 * SECOND
    assert versions.find_version_at(tx, tariff.id, NOW) is None
    assert versions.find_version_at(tx, tariff.id, made.effective_at) == made


def test_large_version_leaves_nodes_more_time(tx, tariff):
    made = write(tx, tariff.id, NOW, *(rate(f"{number:05}") for number in range(20_000)))
    assert made.effective_at - NOW >= 2 * SECOND


def test_next_version_adds_and_closes_differences(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2), rate("44", 3), rate("1", 4))
    gone = key_of(rate("1"))
    written = versions.write_version(tx, tariff.id, NewVersion([rate("55", 9)], [gone]), NOW + HOUR)
    assert (len(written.changes.changed), len(written.changes.removed), len(written.changes.added)) == (1, 1, 0)
    assert content(tx, tariff.id, 1) == {rate("55", 2), rate("44", 3), rate("1", 4)}
    assert content(tx, tariff.id, 2) == {rate("55", 9), rate("44", 3)}
    assert tx.execute(sa.select(sa.func.count()).select_from(tables.rate)).scalar_one() == 4


def test_whole_list_replaces_all_others(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2), rate("44", 3))
    write(tx, tariff.id, NOW + HOUR, rate("44", 3), rate("33", 1), whole=True)
    assert content(tx, tariff.id, 2) == {rate("44", 3), rate("33", 1)}


def test_same_rates_make_no_version(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2))
    number = last_change(tx)
    assert write(tx, tariff.id, NOW + HOUR, rate("+55", 2)) is None
    assert write(tx, tariff.id, NOW + HOUR, rate("55", 2), whole=True) is None
    assert last_change(tx) == number
    assert len(versions.list_versions(tx, tariff.id)) == 1


def test_version_before_the_last_is_refused(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2), effective_at=NOW + 2 * HOUR)
    for moment in (None, NOW + HOUR):
        with pytest.raises(VersionConflict, match=r"version 1 takes effect at .*; withdraw it or choose a later time"):
            write(tx, tariff.id, NOW, rate("55", 3), effective_at=moment)
    assert write(tx, tariff.id, NOW, rate("55", 3), effective_at=NOW + 2 * HOUR).number == 2


def test_two_edits_within_a_second(tx, tariff):
    first = write(tx, tariff.id, NOW, rate("55", 2))
    second = write(tx, tariff.id, NOW + SECOND / 2, rate("55", 3))
    assert first.effective_at < second.effective_at


def test_version_in_the_past_is_refused(tx, tariff):
    with pytest.raises(InvalidValue, match="must not be past"):
        write(tx, tariff.id, NOW, rate("55", 2), effective_at=NOW - HOUR)


def test_withdrawn_version_leaves_no_trace_in_next(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2), rate("44", 3), rate("1", 4))
    waiting = write(tx, tariff.id, NOW, rate("55", 9), rate("44", 1), rate("7", 7), effective_at=NOW + HOUR)
    versions.withdraw(tx, tariff.id, waiting.number, NOW + HOUR / 2)
    write(tx, tariff.id, NOW + HOUR / 2, rate("44", 5))
    assert content(tx, tariff.id, 1) == {rate("55", 2), rate("44", 3), rate("1", 4)}
    assert content(tx, tariff.id, 2) == {rate("55", 9), rate("44", 1), rate("1", 4), rate("7", 7)}
    assert content(tx, tariff.id, 3) == {rate("55", 2), rate("44", 5), rate("1", 4)}


def test_only_last_waiting_version_is_withdrawn(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2))
    write(tx, tariff.id, NOW + HOUR, rate("55", 3), effective_at=NOW + 2 * HOUR)
    write(tx, tariff.id, NOW + HOUR, rate("55", 4), effective_at=NOW + 3 * HOUR)
    now = NOW + HOUR
    with pytest.raises(VersionConflict, match="version 3 builds on version 2"):
        versions.withdraw(tx, tariff.id, 2, now)
    with pytest.raises(VersionConflict, match="has taken effect"):
        versions.withdraw(tx, tariff.id, 1, now)
    with pytest.raises(UnknownTariff):
        versions.withdraw(tx, tariff.id, 9, now)
    versions.withdraw(tx, tariff.id, 3, now)
    versions.withdraw(tx, tariff.id, 2, now)
    with pytest.raises(VersionConflict, match="withdrawn before"):
        versions.withdraw(tx, tariff.id, 2, now)


def test_version_soon_in_force_is_not_withdrawn(tx, tariff):
    made = write(tx, tariff.id, NOW, rate("55", 2), effective_at=NOW + HOUR)
    with pytest.raises(VersionConflict, match="within a second"):
        versions.withdraw(tx, tariff.id, made.number, NOW + HOUR - SECOND)


def test_unfinished_version_yields_to_the_next(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2))
    steps = versions.write_in_steps(tariff.id, NewVersion([rate("55", 9), rate("44", 9)]), lambda: NOW + HOUR)
    work = next(steps)
    for _ in range(3):  # compared, begun, closed; its rates are not added yet
        work = steps.send(work(tx))
    assert write(tx, tariff.id, NOW + HOUR, rate("1", 1)).number == 3
    with pytest.raises(VersionConflict, match="version 3 was begun while version 2 was written"):  # noqa: PT012
        while True:
            work = steps.send(work(tx))
    assert content(tx, tariff.id, 3) == {rate("55", 2), rate("1", 1)}


def test_repeated_step_writes_nothing_twice(tx, tariff):
    def repeat(work):
        work(tx)
        return work(tx)

    new = NewVersion([rate(f"{number:04}") for number in range(versions.ROWS_IN_ONE_TRANSACTION + 5)])
    recorded = []
    steps = versions.write_in_steps(tariff.id, new, lambda: NOW, lambda _tx, made, _now: recorded.append(made))
    work = next(steps)
    with pytest.raises(StopIteration) as end:  # noqa: PT012
        while True:
            work = steps.send(repeat(work))
    number = end.value.value.version.number
    assert content(tx, tariff.id, number) == set(new.rates)
    assert tx.execute(sa.select(sa.func.count()).select_from(tables.rate)).scalar_one() == len(new.rates)
    assert len(recorded) == 1


def test_holidays_make_a_version(tx, tariff):
    write(tx, tariff.id, NOW, rate("55", 2))
    made = write(tx, tariff.id, NOW + HOUR, holidays=frozenset({date(2026, 12, 25)}))
    assert made.holidays == "2026-12-25"
    assert write(tx, tariff.id, NOW + 2 * HOUR, holidays=frozenset({date(2026, 12, 25)})) is None
    assert write(tx, tariff.id, NOW + 2 * HOUR, rate("1")).holidays == "2026-12-25"


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([rate("5a")], "prefix"),
        ([rate("", on_net=True), rate("55", on_net=True)], "an on-net rate has none"),
        ([rate("55", connect_fee=-1)], "connect_fee"),
        ([rate("55", name="a\nb")], "name"),
        ([rate("55", steps="[]")], "steps"),
        ([rate("55", steps="[[5,1,1,1]]")], "steps"),
        ([rate("55", steps="[[0,0,1,1]]")], "increment"),
        ([rate("55", valid_from=NOW, valid_until=NOW)], "valid_until"),
        ([rate("55", window="funday 00:00-24:00")], "day"),
        ([rate("55", window="sat 00:00-24:00")], "windows only"),
        ([rate("55"), rate("55", 2)], "twice"),
        ([rate("55"), rate("+55", 2)], "twice"),
        ([rate("55"), rate("55", valid_from=NOW)], "two rates at one time"),
        ([rate("55"), rate("55", window="sat 00:00-12:00"), rate("55", window="sat 11:00-24:00")], "overlap"),
    ],
)
def test_contradictory_rates_are_refused(tx, tariff, rates, message):
    with pytest.raises(InvalidValue, match=message):
        write(tx, tariff.id, NOW, *rates)
    assert versions.list_versions(tx, tariff.id) == []


def test_rate_is_checked_beside_those_that_stay(tx, tariff):
    write(tx, tariff.id, NOW, rate("55"), rate("55", window="sat 00:00-12:00"))
    with pytest.raises(InvalidValue, match="overlap"):
        write(tx, tariff.id, NOW + HOUR, rate("55", window="sat 11:00-24:00"))
    with pytest.raises(InvalidValue, match="windows only"):
        write(tx, tariff.id, NOW + HOUR, removed=[key_of(rate("55"))])


def test_unknown_rate_is_not_removed(tx, tariff):
    write(tx, tariff.id, NOW, rate("55"))
    with pytest.raises(InvalidValue, match="there is no such rate: voice, prefix 56"):
        write(tx, tariff.id, NOW + HOUR, removed=[key_of(rate("56"))])


def test_version_states_follow_the_time(tx, tariff):
    for number in range(1, 4):
        write(tx, tariff.id, NOW, rate("55", number), effective_at=NOW + number * HOUR)
    versions.withdraw(tx, tariff.id, 3, NOW)
    now = NOW + HOUR
    in_force = versions.find_version_at(tx, tariff.id, now)
    states = [state_of(each, in_force, now) for each in versions.list_versions(tx, tariff.id)]
    assert states == [VersionState.WITHDRAWN, VersionState.WAITING, VersionState.IN_FORCE]


def test_rates_are_listed_by_page_and_prefix(tx, tariff):
    rows = [rate("55", name="Brazil"), rate("5591", name="Para"), rate("44", name="UK"), rate("1", service=Service.SMS)]
    write(tx, tariff.id, NOW, *rows)
    first = list_rates(tx, tariff.id, 1, limit=3)
    rest = list_rates(tx, tariff.id, 1, after=place_of(first[-1]), limit=3)
    assert [each.row.prefix for each in first + rest] == ["1", "44", "55", "5591"]
    assert [each.row.name for each in list_rates(tx, tariff.id, 1, limit=9, prefix="55")] == ["Brazil", "Para"]
    assert [each.row.prefix for each in list_rates(tx, tariff.id, 1, limit=9, text="par")] == ["5591"]
    assert [each.row.prefix for each in list_rates(tx, tariff.id, 1, limit=9, service=Service.SMS)] == ["1"]


def test_time_zone_stays_once_versions_exist(tx, tariff):
    tariff_records.change(tx, tariff.id, {"time_zone": "America/Belem"})
    write(tx, tariff.id, NOW, rate("55"))
    tariff_records.change(tx, tariff.id, {"name": "new", "currency": "R$", "credits_per_unit": 100})
    with pytest.raises(InUse):
        tariff_records.change(tx, tariff.id, {"time_zone": "UTC"})


def test_used_tariff_is_not_deleted(tx, tariff):
    tariff_records.set_default(tx, tariff.id)
    with pytest.raises(InUse, match="default"):
        tariff_records.delete(tx, tariff.id, NOW)
    tariff_records.set_default(tx, None)
    group = {"name": "students", "tariff_id": tariff.id, "created_at": NOW}
    tx.execute(sa.insert(tables.subscriber_group).values(group))
    with pytest.raises(InUse, match="the group students"):
        tariff_records.delete(tx, tariff.id, NOW)
    tx.execute(sa.update(tables.subscriber_group).values(tariff_id=None))
    tariff_records.delete(tx, tariff.id, NOW)
    with pytest.raises(UnknownTariff):
        tariff_records.find(tx, "retail")


def test_every_change_is_counted(tx, tariff):
    number = last_change(tx)
    write(tx, tariff.id, NOW, rate("55"), effective_at=NOW + HOUR)
    versions.withdraw(tx, tariff.id, 1, NOW)
    tariff_records.change(tx, tariff.id, {"name": "new"})
    tariff_records.set_default(tx, tariff.id)
    assert last_change(tx) == number + 4
