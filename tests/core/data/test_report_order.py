"""Which session a report is of: sessions that use one id again, counters that wrap, reports late, lost or repeated."""

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st

from celcombiller.core.data.accounting_reports import AcctStatusType, NasRestart, Usage, key_of
from celcombiller.core.data.report_order import COUNTER, REORDERED
from celcombiller.core.data.session import Closing
from tests.core.data.test_data_sessions import ask, give, hear, interim, pot, rows, start, stop
from tests.core.ledger.test_book import NOW, database, proved
from tests.support.properties import share

CREDIT = 10**15


def at(seconds, **facts):
    """Return the facts of a report that its NAS dates, made so many seconds after NOW."""
    return {"dated_at": NOW + timedelta(seconds=seconds)} | facts


def aged(seconds, age, **facts):
    """Return the facts of a report that says the age of its session."""
    return at(seconds, session_seconds=age, **facts)


def charged(engine):
    return CREDIT - pot(engine)[0]


# -- an id that is used again ----------------------------------------------------------------------------------------


def test_a_dated_start_ends_an_open_session(engine):
    give(engine, CREDIT)
    hear(engine, start(**at(-600)), interim(500_000_000), start(**at(-100)), interim(200_000_000), stop(400_000_000))
    assert charged(engine) == 900_000_000
    first, second = rows(engine)
    assert (first.octets, first.closed_by, first.note) == (500_000_000, Closing.RESTART, "its id was used again")
    assert (second.octets, second.closed_by) == (400_000_000, Closing.STOP)
    assert pot(engine)[1] == 0
    proved(engine)


def test_late_reports_go_to_their_own_session(engine):
    give(engine, CREDIT)
    hear(engine, start(**at(0)), interim(500, **aged(300, 300)), start(**at(400)), interim(200, **aged(500, 100)))
    hear(engine, interim(450, **aged(280, 280)), stop(600, **aged(390, 390)), stop(600, **aged(390, 390)))
    assert [each.octets for each in rows(engine)] == [600, 200]
    hear(engine, stop(250, **aged(700, 300)))
    assert [each.octets for each in rows(engine)] == [600, 250]
    assert (charged(engine), pot(engine)[1]) == (850, 0)
    proved(engine)


def test_a_lost_start_is_dated_by_age(engine):
    give(engine, CREDIT)
    hear(
        engine,
        start(**at(0)),
        interim(500, **aged(300, 300)),
        interim(200, **aged(600, 60)),
        stop(260, **aged(700, 160)),
    )
    assert (charged(engine), len(rows(engine))) == (760, 2)
    proved(engine)


def test_an_undated_session_of_greater_age_begins_again(engine):
    """A higher Acct-Session-Time with a lower counter cannot be the same session, nor late."""
    give(engine, CREDIT)
    hear(engine, start(), interim(500, session_seconds=60, at=NOW + timedelta(seconds=60)))
    later = NOW + timedelta(seconds=1000)
    hear(engine, interim(90, session_seconds=70, at=later))
    assert charged(engine) == 590


@pytest.mark.parametrize("late", [interim(400, session_seconds=40), stop(500, session_seconds=60), interim(300)])
def test_an_undated_report_that_comes_late_changes_nothing(engine, late):
    give(engine, CREDIT)
    end = NOW + timedelta(seconds=60)
    hear(engine, start(), stop(500, session_seconds=60, at=end))
    hear(engine, replace(late, at=end + timedelta(hours=2)))
    assert (charged(engine), len(rows(engine))) == (500, 1)


def test_a_session_known_by_age_stays_alone(engine):
    """Undated: the Stop of the second session comes first of it, and the Stop of the first one after that."""
    give(engine, CREDIT)
    then = [NOW + timedelta(seconds=each) for each in (120, 330, 180)]
    hear(engine, start(), interim(1, session_seconds=120, at=then[0]), stop(0, session_seconds=120, at=then[1]))
    hear(engine, stop(1, session_seconds=180, at=then[2]))
    assert charged(engine) == 1


def test_an_earlier_start_moves_no_beginning(engine):
    give(engine, CREDIT)
    hear(engine, interim(1, **aged(420, 60)), interim(0, **aged(540, 60)), start(**at(120)), start(**at(360)))
    hear(engine, stop(1, **aged(480, 120)), stop(0, **aged(600, 120)))
    assert charged(engine) == 1


def test_no_start_takes_what_was_made_before(engine):
    """Undated: the session of the first Stop is over, and one has begun since; what comes now was made before both."""
    give(engine, CREDIT)
    then = [NOW + timedelta(seconds=each) for each in (302, 151, 333, 91)]
    hear(engine, stop(0, session_seconds=60, at=then[0]), interim(1, session_seconds=120, at=then[1]))
    hear(engine, start(at=then[2]), interim(1, session_seconds=60, at=then[3]))
    assert charged(engine) <= 1


def test_a_start_that_came_late_costs_no_session(engine):
    """Undated, without an Acct-Delay-Time: the NAS repeated its Start for five minutes while the biller was away."""
    give(engine, CREDIT)
    then = [NOW + timedelta(seconds=each) for each in (300, 360, 420)]
    hear(engine, start(at=then[0]), interim(70, session_seconds=360, at=then[1]))
    hear(engine, stop(90, session_seconds=420, at=then[2]))
    assert (charged(engine), len(rows(engine))) == (90, 1)


@pytest.mark.parametrize("aged", [True, False])
def test_our_clock_may_be_set_back(engine, aged):
    give(engine, CREDIT)
    for report, seconds in [(start(), 0), (interim(70), 60), (interim(80), 120), (stop(90), 180)]:
        now = NOW + timedelta(seconds=seconds) - timedelta(hours=1 if seconds >= 120 else 0)
        hear(engine, replace(report, at=now, session_seconds=seconds if aged and seconds else None), now=now)
    assert (charged(engine), len(rows(engine))) == (90, 1)


def test_delay_times_tell_sessions_apart(engine):
    """Neither dates nor ages: when each report was made by our clock, as its Acct-Delay-Time says."""
    give(engine, CREDIT)
    made = [NOW - timedelta(seconds=each) for each in (600, 300, 100, 50, 400)]
    hear(engine, start(at=made[0]), interim(500, at=made[1]), start(at=made[2]), interim(200, at=made[3]))
    hear(engine, interim(450, at=made[4]))
    assert charged(engine) == 700


def test_a_stop_then_start_are_two_sessions(engine):
    """pfSense's accounting by Stop and Start, each minute: the same id, no dates, counters from zero."""
    give(engine, CREDIT)
    total = 0
    for minute in range(1, 5):
        then = NOW + timedelta(seconds=60 * minute)
        hear(engine, start(at=then - timedelta(seconds=60)), stop(700 // minute, session_seconds=60, at=then))
        total += 700 // minute
    assert (charged(engine), len(rows(engine))) == (total, 4)
    proved(engine)


def test_a_repeated_start_with_new_date_begins_nothing(engine):
    give(engine, CREDIT)
    hear(engine, start(**at(0)), start(**at(5)), start(**at(15)), interim(70, **aged(60, 60)), stop(90, **aged(99, 99)))
    assert (charged(engine), len(rows(engine))) == (90, 1)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_is_set_in_mid_session(engine, step):
    give(engine, CREDIT)
    hear(engine, start(**at(0)), interim(500, **aged(300, 300)))
    hear(
        engine,
        interim(800, at=NOW + timedelta(seconds=600), **aged(600 + step, 600)),
        interim(500, at=NOW + timedelta(seconds=601), **aged(600 + step, 600)),
        stop(900, at=NOW + timedelta(seconds=900), **aged(900 + step, 900)),
    )
    assert (charged(engine), len(rows(engine))) == (900, 1)
    hear(engine, start(**at(1000 + step)), stop(50, **aged(1010 + step, 10)))
    assert charged(engine) == 950


def test_a_silent_restart_ends_only_reused_ids(engine):
    give(engine, CREDIT)
    hear(engine, start(**at(0)), interim(5, **aged(60, 60)), start(session_id="B2", **at(10)), start(**at(100)))
    assert sorted((each.session_id, each.closed_by) for each in rows(engine) if each.closed_by) == [
        ("A1", Closing.RESTART)
    ]
    hear(
        engine, NasRestart("hotspot/nas1", NOW + timedelta(seconds=200), "Accounting-On", NOW + timedelta(seconds=200))
    )
    assert all(each.closed_by is Closing.RESTART for each in rows(engine))


# -- one subscriber, whatever the name -------------------------------------------------------------------------------


def test_one_session_whatever_name_the_report_gives(engine):
    give(engine, CREDIT)
    named = {"username": "u1001@isp.example", "identities": ("u1001@isp.example", "u1001")}
    hear(engine, start(**named), interim(1000, **named), interim(2000), stop(3000))
    assert (charged(engine), len(rows(engine)), pot(engine)[1]) == (3000, 1, 0)
    proved(engine)


def test_a_nameless_report_is_of_the_only_session(engine):
    give(engine, CREDIT)
    hear(engine, start(), stop(70, username="", identities=()))
    assert (charged(engine), pot(engine)[1]) == (70, 0)


def test_an_older_versions_session_keeps_its_key(engine, monkeypatch):
    give(engine, CREDIT)
    with monkeypatch.context() as before:
        before.setattr(Usage, "key", property(lambda usage: key_of(usage.nas, usage.session_id, usage.username)))
        hear(engine, start(), interim(500))
    hear(engine, interim(800), stop(900))
    assert (charged(engine), len(rows(engine))) == (900, 1)
    hear(engine, start(at=NOW + 3 * REORDERED), stop(50, at=NOW + 4 * REORDERED))
    assert charged(engine) == 950


# -- counters --------------------------------------------------------------------------------------------------------


def test_every_wrap_of_a_counter_counts(engine):
    give(engine, CREDIT)
    hear(engine, start(**at(0)))
    used = 0
    for number in range(1, 12):
        used += 1_700_000_000
        hear(engine, interim(used % COUNTER, wraps=True, **aged(300 * number, 300 * number)))
        hear(
            engine,
            interim((used - 1_700_000_000) % COUNTER, wraps=True, **aged(300 * (number - 1), 300 * (number - 1))),
        )
    hear(engine, stop(used % COUNTER, wraps=True, **aged(4000, 4000)))
    assert charged(engine) == used
    proved(engine)


@pytest.mark.parametrize(
    ("lower", "what"),
    [
        (interim(100, **aged(600, 600)), "has Gigawords"),
        (interim(100, wraps=True, **aged(200, 200)), "is older"),
        (interim(3_900_000_000, wraps=True, **aged(600, 600)), "went back a little"),
    ],
)
def test_a_lower_counter_without_wrap_is_free(engine, lower, what):
    give(engine, CREDIT)
    hear(engine, start(**at(0)), interim(4_000_000_000, wraps=True, **aged(300, 300)), lower)
    assert charged(engine) == 4_000_000_000, what


@pytest.mark.parametrize(
    ("known", "counter", "packets", "more"),
    [
        (4 * 10**9, 3 * 10**9, (3_000_000, 6_000_000), COUNTER - 10**9),  # 3.3 GB in 3 million packets
        (4 * 10**9, 3 * 10**9, (3_000_000, 3_000_900), 0),  # set back: 900 packets hold no 3.3 GB
        (35 * 10**8, 10**7, (3_000_000, 7_000), 0),  # all set back to zero
        (35 * 10**8, 10**7, (2**32 - 10, 2_000_000), 10**7 + COUNTER - 35 * 10**8),  # the packets wrapped too
        (700, 690, (10, 12), 0),
        (35 * 10**8, 10**7, (3_000_000, None), 10**7 + COUNTER - 35 * 10**8),  # without packets: less than 2 GiB
        (4 * 10**9, 3 * 10**9, (None, 6_000_000), 0),
    ],
)
@pytest.mark.parametrize("way", ["in", "out"])
def test_packets_tell_a_wrap_from_a_setback(engine, known, counter, packets, more, way):
    give(engine, CREDIT)
    hear(engine, start(**at(0)))
    for octets, sent, seconds in [(known, packets[0], 300), (counter, packets[1], 600), (counter, packets[1], 600)]:
        report = interim(0, wraps=True, **aged(seconds, seconds))
        hear(engine, replace(report, **{f"octets_{way}": octets, f"packets_{way}": sent}))
    assert charged(engine) == known + more
    proved(engine)


# -- the law ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nas:
    """What a NAS says of the times, how large its counters of octets are, and whether it counts packets."""

    dates: bool
    ages: bool
    gigawords: bool
    skew: int
    packets: bool


@dataclass(frozen=True)
class Real:
    """A real session: its length, its gap after the one before, and the octets used until each report."""

    gap: int
    steps: tuple[tuple[int, int], ...]

    def reports(self, nas, begins):
        """Return its reports with the octets that were used until then."""
        used, age = 0, 0
        yield self._made(start(), nas, begins, 0), 0
        for number, (seconds, octets) in enumerate(self.steps, 1):
            used, age = used + octets * (2 if nas.packets else 1), age + seconds
            kind = AcctStatusType.STOP if number == len(self.steps) else AcctStatusType.INTERIM
            counter = used if nas.gigawords else used % COUNTER
            made = replace(start(), status_type=kind, octets_in=counter, wraps=not nas.gigawords)
            counted = -(-used // 1000) if nas.packets else None
            yield self._made(replace(made, packets_in=counted), nas, begins, age), used

    def _made(self, report, nas, begins, age):
        then = NOW + timedelta(seconds=begins + age)
        dated_at = then + timedelta(seconds=nas.skew) if nas.dates else None
        aged = nas.ages and report.status_type is not AcctStatusType.START
        return replace(report, at=then, dated_at=dated_at, session_seconds=age if aged else None)

    @property
    def seconds(self):
        return sum(seconds for seconds, _ in self.steps)


nases = st.builds(Nas, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, -7200, 80_000]), st.booleans())
steps = st.tuples(st.integers(60, 900), st.integers(0, 2_000_000_000) | st.integers(0, 9))
reals = st.lists(
    st.builds(Real, st.integers(0, 400), st.lists(steps, min_size=1, max_size=4).map(tuple)), min_size=1, max_size=4
)


def told(nas, sessions):
    """Return all reports in order, each with its session and the octets used in it."""
    begins, made = 0, []
    for number, real in enumerate(sessions):
        begins += real.gap
        made += [(number, report, used) for report, used in real.reports(nas, begins)]
        begins += real.seconds
    return made


def used_in(made):
    """Return the octets that were used in all these sessions."""
    return sum(used for _, report, used in made if report.status_type is AcctStatusType.STOP)


class Ledger:
    """One database for all examples: each has an id of its own, and is charged apart."""

    def __init__(self):
        self.engine = database()
        self.examples = 0
        give(self.engine, CREDIT)

    def charge(self, reports, cuts=()):
        """Report these in batches; return what they cost, and what is held at their end."""
        self.examples += 1
        before = pot(self.engine)
        places = [0, *sorted(min(cut, len(reports)) for cut in cuts), len(reports)]
        named = [replace(each, session_id=f"example {self.examples}") for each in reports]
        for first, last in pairwise(places):
            ask(self.engine, *named[first:last])
        after = pot(self.engine)
        return before[0] - after[0], after[1] - before[1]


@pytest.fixture(scope="module")
def ledger():
    made = Ledger()
    yield made
    proved(made.engine)
    made.engine.dispose()


cuts = st.lists(st.integers(0, 20), max_size=2)


@given(nas=nases, sessions=reals, cuts=cuts)
@share(1)
def test_ordered_reports_are_charged_once_in_full(ledger, nas, sessions, cuts):
    made = told(nas, sessions)
    assert ledger.charge([report for _, report, _ in made], cuts) == (used_in(made), 0)


@given(nas=nases, sessions=reals, data=st.data(), cuts=cuts)
@share(2)
def test_no_octet_is_charged_twice_in_any_order(ledger, nas, sessions, data, cuts):
    gap = 0 if nas.dates and nas.ages else REORDERED.seconds + 1  # otherwise what comes sooner may be late
    made = told(nas, [replace(real, gap=real.gap + gap) for real in sessions])
    arriving = data.draw(st.lists(st.sampled_from(made), max_size=2 * len(made)) | st.permutations(made))
    highest = {}
    for number, _, used in arriving:
        highest[number] = max(highest.get(number, 0), used)
    total, _ = ledger.charge([report for _, report, _ in arriving], cuts)
    for number, report, used in arriving:
        note(f"{number}: {report.status_type} made at {report.at:%H:%M:%S}, {used} octets")
    event(f"all that arrived was charged: {total == sum(highest.values())}")
    assert total <= sum(highest.values())


@given(nas=nases.filter(lambda nas: nas.dates and nas.ages and nas.gigawords), sessions=reals, data=st.data())
@share(1)
def test_dates_and_ages_tell_all_in_any_order(ledger, nas, sessions, data):
    """Where every Start has come, the reports of all sessions may come in any order, again and again."""
    made = told(nas, [replace(real, gap=real.gap + 20) for real in sessions])
    starts = [each for each in made if each[1].status_type is AcctStatusType.START]
    others = data.draw(st.permutations([each for each in made if each not in starts] * 2))
    assert ledger.charge([report for _, report, _ in [*starts, *others]])[0] == used_in(made)
