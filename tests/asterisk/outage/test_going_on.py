"""A live call whose grant cannot be renewed: it goes on as far as it may, and what it talked is charged."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from twisted.internet import reactor

from celcombiller.asterisk.outage.control import OutageControl
from celcombiller.asterisk.outage.journal import Journal
from celcombiller.asterisk.outage.recovery import LedgerlessCalls
from celcombiller.config.charging_policy import outage_rules
from celcombiller.config.tables import Config, Outage
from celcombiller.core.charging.requests import Terminate
from celcombiller.core.model.calls import CallReport, Witness
from celcombiller.core.subscribers.known_subscribers import KnownSubscribers
from celcombiller.core.subscribers.subscriber_records import find_by_clid
from celcombiller.runtime.metrics import Metrics
from tests.asterisk.live_control.test_control import scenes  # noqa: F401
from tests.core.ledger.test_book import ended, proved, voice

RULE = Outage(prefix="on-net", policy="deny", live_seconds_max=30, credits_max=20)


@pytest.fixture
def controls(tmp_path):
    made = []

    def build(*rules):
        config = Config(outage=rules)
        known = KnownSubscribers(10)
        journal = Journal(reactor, tmp_path / "ledger.calls", "l")
        made.append(OutageControl(config, outage_rules(config), known, None, journal, Metrics()))
        return made[-1]

    yield build
    for each in made:
        pytest_twisted.blockon(each.journal.close())


def end_of(call, seconds, **facts):
    report = CallReport(answered=True, at=datetime.now(UTC), talk_ms=seconds * 1000 + 3, outcome="ANSWER")
    return Terminate(call.server, call.uniqueid, Witness.AGI, report, leg=call.leg, **facts)


@pytest.mark.parametrize(
    ("rule", "available", "extra"),
    [
        (RULE, None, 20),
        (RULE, 500, 20),
        (RULE, 7, 7),
        (RULE, 0, 0),
        (Outage(prefix="on-net", policy="deny", live_seconds_max=5), None, 5),
        (Outage(prefix="on-net", policy="allow"), None, 0),
        (Outage(prefix="55", policy="allow", live_seconds_max=30), None, 0),
        (Outage(prefix="on-net", policy="deny", live_seconds_max=30, total_credits_max=3), None, 3),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_call_goes_on_within_limits(scenes, controls, rule, available, extra):  # noqa: F811
    scene, control = scenes(), controls(rule)
    call = scene.begin(talked=0).call
    if available is not None:
        with scene.engine.begin() as tx:
            control.known.learn(find_by_clid(tx, "1001"), available)
    limit = await control.go_on(call, datetime.now(UTC))
    assert limit == (call.granted_seconds + extra if extra else 0)
    assert control.journal.state.exposed_credits == extra
    assert await control.go_on(call, datetime.now(UTC)) == 0  # once
    assert control.with_limit(end_of(call, 1)).limit_seconds == (limit or None)


@pytest.mark.parametrize("is_new_process", [False, True])
@pytest_twisted.ensureDeferred
async def test_talk_beyond_the_grant_is_charged(scenes, controls, is_new_process):  # noqa: F811
    """To the limit, though Asterisk cuts some milliseconds later."""
    scene, control = scenes(), controls(RULE)
    call = scene.begin(talked=0).call
    limit = await control.go_on(call, datetime.now(UTC))
    if is_new_process:
        control = controls(RULE)
    calls = LedgerlessCalls(reactor, control, scene.store, {}, Metrics())
    await calls.look()
    await scene.store.charge(control.with_limit(end_of(call, limit)))
    await calls.look()
    assert (voice(scene.engine).posted, voice(scene.engine).held) == (600 - limit, 0)
    assert control.journal.state.waiting == 0
    proved(scene.engine)


@pytest_twisted.ensureDeferred
async def test_a_reducer_finds_the_limit_without_leg(scenes, controls):  # noqa: F811
    scene, control = scenes(), controls(RULE)
    call = scene.begin(talked=0).call
    limit = await control.go_on(call, datetime.now(UTC))
    end = ended(call.uniqueid)
    assert control.with_limit(end).limit_seconds == limit
    control.record_charge(end, scene.store.charge(control.with_limit(end)).result)
    await control.journal.write()
    assert control.journal.state.waiting == 0
    assert control.with_limit(end).limit_seconds is None


@pytest.mark.parametrize(("left", "goes_on"), [(10, True), (18, False)])
def test_a_renewal_that_fails_moves_the_limit(scenes, left, goes_on):  # noqa: F811
    granted = scenes().begin().seconds
    scene = scenes()
    grant = scene.begin(talked=granted - left)
    asked = []

    async def go_on(call, _answered_at):
        asked.append(call.reference)
        return call.granted_seconds + 30

    scene.control._may_go_on = go_on
    scene.asterisk.limits.clear()
    scene.store.away = True
    scene.control.look()
    assert asked == ([grant.call.reference] if goes_on else [])
    assert {round(each) for each in scene.left().values()} == ({left + 30} if goes_on else set())
    scene.store.away = False
    scene.live().look_at = datetime.now(UTC) - timedelta(seconds=1)
    scene.control.look()
    assert len(scene.renewals()) == 1
