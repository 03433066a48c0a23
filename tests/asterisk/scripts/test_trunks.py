"""Calls that go from a trunk that fails to the next one, with Asterisk's side simulated."""

from dataclasses import dataclass, field

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred, fail, succeed

from celcombiller.asterisk.agi.simulator import Channel
from celcombiller.core.charging.requests import Initiate, TakeTrunk
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.schema import tables
from tests.core.charging.test_call_limits import OFF_NET, terms, tried, write
from tests.core.ledger.test_book import ask, proved, voice
from tests.core.routing.test_trunk_choice import trunk
from tests.support.script_biller import House, StoreHere


@dataclass(slots=True)
class Dialler(Channel):
    """A channel whose Dials end in turn with these outcomes; what happens at each is noted."""

    ends: tuple[str, ...] = ()
    dials: list[str] = field(default_factory=list)
    recorded: list[object] = field(default_factory=list)
    at_dial: object = None
    before: dict[str, str] = field(default_factory=dict)

    def _dial(self, argument):
        self.outcome = self.ends[len(self.dials)]
        self.before = {name: self.variables.get(name, "") for name in ("DIALSTATUS", "ANSWEREDTIME_MS")}
        self.dials.append(argument)
        if self.at_dial:
            self.recorded.append(self.at_dial())
        return Channel._dial(self, argument)


class StoreByPolicy(StoreHere):
    """A store whose charging has this policy, and so its trunks."""

    policy = None

    def _now(self, request):
        (answer,) = ask(self.engine, request, terms=self.policy)
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)


@pytest.fixture
def houses(tmp_path):
    made = []

    def build(*trunks, **calls):
        house = House(tmp_path / "db.sqlite", ring_seconds=40, **calls)
        made.append(house)
        trunks = trunks or (trunk(1), trunk(2, strip="55", prepend="0"), trunk(3, caller_id="+55{number}"))
        policy = terms(trunks=trunks, max_call_seconds=60)
        write(house.engine, policy)
        house.store.__class__, house.store.policy = StoreByPolicy, policy
        house.scripts.call._catalogue = policy.catalogue
        return house

    yield build
    for each in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))


async def call(house, *ends, called=OFF_NET, **facts):
    channel = Dialler("1001", called, ends=ends, **facts)
    channel.at_dial = lambda: tried(house.engine)
    return await house.play(channel, "caller", "reducer")


@pytest_twisted.ensureDeferred
async def test_the_next_trunk_is_dialled_and_charged(houses):
    house = houses()
    channel = await call(house, "CONGESTION", "CHANUNAVAIL", "ANSWER", talk_ms=2300)
    assert channel.dials == [
        f"PJSIP/{OFF_NET}@t1,40,giL(60000)",
        "PJSIP/011999@t2,39,giL(60000)",
        f"PJSIP/{OFF_NET}@t3,39,giL(60000)f(+551001)",
    ]
    assert channel.recorded == [[(1, None, None)], [(2, "1", None)], [(3, "1 2", None)]]
    assert (voice(house.engine).posted, voice(house.engine).held) == (57, 0)
    with house.engine.begin() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(tables.hold)).scalar_one() == 1
    proved(house.engine)


@pytest.mark.parametrize("outcome", ["BUSY", "NOANSWER", "CANCEL", "ANSWER"])
@pytest_twisted.ensureDeferred
async def test_other_ends_try_no_other_trunk(houses, outcome):
    channel = await call(houses(), outcome)
    assert len(channel.dials) == 1


@pytest.mark.parametrize(("setting", "count"), [("BUSY", 2), ("BUSY 17", 2), ("BUSY 34", 1), ("CONGESTION", 1)])
@pytest_twisted.ensureDeferred
async def test_the_setting_says_which_ends_do(houses, setting, count):
    channel = await call(houses(failover_on=(setting,)), "BUSY", "ANSWER")
    assert len(channel.dials) == count


@pytest_twisted.ensureDeferred
async def test_when_all_trunks_fail_nothing_is_charged(houses):
    house = houses()
    channel = await call(house, "CONGESTION", "CONGESTION", "CHANUNAVAIL")
    assert channel.variables["CELCOMBILLER_RESULT"] == "GRANTED"
    assert channel.variables["DIALSTATUS"] == "CHANUNAVAIL"
    assert (len(channel.dials), voice(house.engine).posted, voice(house.engine).held) == (3, 60, 0)
    assert tried(house.engine) == [(3, "1 2", None)]


@pytest_twisted.ensureDeferred
async def test_trunks_share_one_time_to_ring(houses, monkeypatch):
    house, seconds = houses(), iter([100.0, 100.0, 130.2, 130.2, 140.0])
    clock = house.scripts.call._clock

    class Late:
        callLater = staticmethod(clock.callLater)

        @staticmethod
        def seconds():
            return next(seconds, 140.0)

    async def dial(*arguments):
        monkeypatch.setattr(house.scripts.call, "_clock", Late)
        return await dial_in_turn(*arguments)

    dial_in_turn = house.scripts.call._dial_in_turn
    monkeypatch.setattr(house.scripts.call, "_dial_in_turn", dial)
    channel = await call(house, "CONGESTION", "CONGESTION", "ANSWER")
    assert [each.split(",")[1] for each in channel.dials] == ["40", "9"]
    assert voice(house.engine).held == 0


@pytest_twisted.ensureDeferred
async def test_the_last_dial_is_forgotten_first(houses):
    channel = await call(houses(), "CONGESTION", "ANSWER")
    assert channel.before == {"DIALSTATUS": "", "ANSWEREDTIME_MS": ""}


@pytest_twisted.ensureDeferred
async def test_a_full_trunk_is_not_taken_next(houses):
    house = houses(trunk(1), trunk(2, calls_max=0), trunk(3))
    channel = await call(house, "CONGESTION", "ANSWER", talk_ms=1000)
    assert [each.partition("@")[2][:2] for each in channel.dials] == ["t1", "t3"]


@pytest.mark.parametrize(
    ("trouble", "faults"), [([StoreUnavailable("away")] * 10, []), ([KeyError("a fault")], [KeyError])]
)
@pytest_twisted.ensureDeferred
async def test_a_trunk_not_recorded_is_not_dialled(houses, expected_failures, trouble, faults):
    house = houses()
    house.store.trouble[TakeTrunk] = [*trouble]
    channel = await call(house, "CONGESTION", "ANSWER")
    assert (len(channel.dials), voice(house.engine).held) == (1, 0)
    assert [each.type for each in expected_failures] == faults
    expected_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_hangup_between_two_dials_ends_it(houses, monkeypatch):
    house = houses()
    take_next = house.scripts.call._take_next

    async def leave(way, *arguments):
        taken = await take_next(way, *arguments)
        way.agi.hungup = True
        return taken

    monkeypatch.setattr(house.scripts.call, "_take_next", leave)
    channel = await call(house, "CONGESTION", "ANSWER")
    assert (len(channel.dials), voice(house.engine).posted, voice(house.engine).held) == (1, 60, 0)


@pytest_twisted.ensureDeferred
async def test_a_taking_whose_answer_is_lost_repeats(houses):
    house = houses()
    house.store.trouble[TakeTrunk] = [StoreUnavailable("restarting")]
    channel = await call(house, "CONGESTION", "ANSWER", talk_ms=1000)
    assert (len(channel.dials), tried(house.engine)) == (2, [(2, "1", None)])


@pytest_twisted.ensureDeferred
async def test_a_call_without_ledger_tries_trunks_too(houses):
    house = houses(on_failure="allow")
    house.store.trouble[Initiate] = [StoreUnavailable("away")] * 10
    channel = await call(house, "CONGESTION", "ANSWER", talk_ms=3000)
    assert [each.partition("@")[2][:2] for each in channel.dials] == ["t1", "t2"]
    assert voice(house.engine).posted == 57


@pytest_twisted.ensureDeferred
async def test_an_emergency_call_tries_each_trunk(houses):
    house = houses(trunk(1, calls_max=0), trunk(2))
    channel = await call(house, "CONGESTION", "ANSWER", called="112")
    assert channel.dials == ["PJSIP/112@t1,40,gi", "PJSIP/112@t2,40,gi"]
    assert voice(house.engine).posted == 60


@pytest_twisted.ensureDeferred
async def test_trunks_and_their_failures_are_counted(houses):
    house = houses()
    await call(house, "CONGESTION", "ANSWER", talk_ms=2000)
    counted = {
        (each.name, *each.labels.values()): each.value
        for metric in (house.metrics.calls.failovers, house.metrics.calls.trunk_calls)
        for family in metric.collect()
        for each in family.samples
        if each.name.endswith("_total")
    }
    assert counted == {
        ("celcombiller_trunk_failovers_total", "t1", "CONGESTION"): 1,
        ("celcombiller_trunk_calls_total", "t2", "yes"): 1,
    }
