"""The control of live calls, with Asterisk's answers played: renewals, limits, sharing, and what it leaves alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.ami.link import SWEEP_SECONDS, AmiLink
from celcombiller.asterisk.live_control import changes, control
from celcombiller.asterisk.live_control.control import LiveControl
from celcombiller.asterisk.live_control.orders import HANGUP_SOUND_SECONDS
from celcombiller.config.tables import Calls
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy
from celcombiller.core.errors import BillerError, SharedBalance
from celcombiller.core.model.calls import RenewalReason
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import last_change, record_change
from celcombiller.core.schema.live_change import record_live_change
from celcombiller.core.subscribers import group_records, subscriber_records
from celcombiller.core.voice import call_orders, live_changes
from celcombiller.core.voice.call_orders import OrderKind
from celcombiller.runtime.metrics import Metrics
from tests.asterisk.ami.test_link import CHANNEL, Asterisk, StoreHere, answered
from tests.core.ledger.test_book import ask, credit, database, ended, initiate, proved, voice
from tests.support.deferreds import result_of

CALLEE = "PJSIP/1002-1.1"
SLICE = 40


class LimitedAsterisk(Asterisk):
    """An Asterisk whose channels can be gone, and that hangs up."""

    def __init__(self):
        super().__init__()
        self.gone, self.hung_up, self.said = set(), [], []

    def playDTMF(self, channel, digit):
        self.said.append((channel, "tone"))
        return succeed({})

    def originate(self, channel, *, application, data, variable, nowait):
        self.said.append((variable["CELCOMBILLER_WHISPER"], data))
        return succeed({})

    def absoluteTimeout(self, channel, seconds):
        if channel in self.gone:
            return fail(AmiRefused("No such channel"))
        return super().absoluteTimeout(channel, seconds)

    def hangup(self, channel):
        self.hung_up.append(channel)
        return succeed({})


class Store(StoreHere):
    """The ledger, by a policy whose catalogue can be changed."""

    policy = None

    def charge(self, request, *, deferrable=False):
        if self.away:
            return super().charge(request)
        (answer,) = ask(self.engine, request, now=datetime.now(UTC), terms=self.policy)
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)


class ReaderHere:
    def __init__(self, engine):
        self.engine = engine

    async def read(self, work):
        with self.engine.begin() as tx:
            return work(tx)


class Scene:
    """User 1001 has credit; `begin` starts calls of theirs, and `control.look` looks at them."""

    def __init__(self, path, *, credits_=600, **calls):
        self.calls = Calls(**{"slice_seconds": SLICE, **calls})
        self.engine, self.clock, self.asterisk = database(path), Clock(), LimitedAsterisk()
        self.catalogue = CatalogueHolder(Catalogue())
        self.asterisk.alive, self.is_reachable = [], True
        self.store, self.metrics = Store(self.engine), Metrics(self.clock.seconds)
        self.store.policy = ChargingPolicy(Tariff([Rate()]), catalogue=self.catalogue)
        ask(self.engine, credit(credits_))
        self.link = AmiLink(self.clock, "pbx1", self.login, self.store, self.metrics)
        self.link.startService()
        self.control = self.controlling(self.link)

    def controlling(self, link):
        reader = ReaderHere(self.engine)
        return LiveControl(self.clock, self.calls, self.store, reader, {"pbx1": link}, self.metrics, self.catalogue)

    def metrics_of(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)

    def login(self):
        return succeed(self.asterisk) if self.is_reachable else fail(AmiRefused("not now"))

    def begin(self, uniqueid="1.0", *, talked=None, watched=True):
        """Begin a call that was answered ``talked`` seconds ago; None: it rings."""
        channel = f"PJSIP/1001-{uniqueid}"
        at = datetime.now(UTC) - timedelta(seconds=(talked or 0) + 2)
        (grant,) = ask(self.engine, initiate(uniqueid, slice_seconds=self.calls.slice_seconds or None), now=at)
        assert not isinstance(grant, Exception), grant
        self.asterisk.alive.append(channel)
        if watched:
            self.link.watch(grant.call)
        if talked is not None:
            facts = {"channel": channel, "uniqueid": uniqueid, "destchannel": CALLEE, "destuniqueid": f"{uniqueid}1"}
            answered(self, talked, **facts)
        self.asterisk.limits.clear()
        return grant

    def live(self, uniqueid="1.0"):
        return self.link.live_calls.find(uniqueid)

    def renewals(self):
        with self.engine.begin() as tx:
            rows = tx.execute(sa.select(tables.call_renewal).order_by(tables.call_renewal.c.id))
            return [(row.reason, row.seconds_before, row.seconds_after) for row in rows]

    def left(self):
        """The seconds that are left by the limit that the channels last got."""
        return dict(self.asterisk.limits)

    def sweep(self):
        self.clock.advance(SWEEP_SECONDS)


@pytest.fixture
def scenes(tmp_path):
    made = []

    def build(**facts):
        made.append(Scene(tmp_path / f"{len(made)}.sqlite", **facts))
        return made[-1]

    yield build
    for each in made:
        each.link.stopService()
        each.engine.dispose()


def test_a_slice_is_renewed_before_its_end(scenes):
    scene = scenes()
    granted = scene.begin(talked=0).seconds
    assert SLICE / 2 <= granted <= SLICE
    scene.control.look()
    assert scene.renewals() == []
    scene = scenes()
    scene.begin(talked=granted - 10)
    scene.control.look()
    assert scene.renewals() == [("renewal", granted, granted - 10 + 1 + SLICE)]
    left = scene.left()
    assert left.keys() == {CHANNEL, CALLEE}
    assert all(SLICE < each <= SLICE + 1.1 for each in left.values())
    scene.control.look()
    assert len(scene.renewals()) == 1
    assert voice(scene.engine).held == granted - 10 + 1 + SLICE
    proved(scene.engine)


def test_an_unanswered_call_keeps_its_first_slice(scenes):
    scene = scenes()
    scene.begin()
    scene.control.look()
    scene.sweep()
    scene.control.look()
    assert scene.renewals() == []
    assert scene.asterisk.limits == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_moves_no_end(scenes, hours):
    """Asterisk counts a limit by its clock, so all are set again."""
    scene = scenes()
    granted = scene.begin(talked=5).seconds
    scene.control.look()
    scene.sweep()
    scene.asterisk.ahead_seconds = 3600 * hours
    scene.clock.advance(1)
    scene.control.look()
    granted = scene.live().call.granted_seconds
    assert all(granted - 7 < seconds < granted - 3 for seconds in scene.left().values())  # two clocks of the test
    assert scene.left().keys() == {CHANNEL, CALLEE}


def test_the_last_slice_is_not_cut_early(scenes):
    scene = scenes(credits_=15)
    grant = scene.begin(talked=0)
    assert grant.seconds == 15
    scene.control.look()
    assert scene.live().is_final
    assert scene.renewals() == scene.asterisk.limits == []
    assert scene.live().look_at > datetime.now(UTC) + timedelta(seconds=13)


def test_a_callee_that_is_gone_is_no_error(scenes):
    scene = scenes()
    granted = scene.begin(talked=25).seconds
    scene.asterisk.gone.add(CALLEE)
    scene.control.look()
    assert scene.left().keys() == {CHANNEL}
    assert scene.live().limit_seconds == scene.live().call.granted_seconds > granted


def test_an_unknown_callee_is_asked_for(scenes):
    scene = scenes()
    scene.begin(talked=25)
    scene.live().callee_channel = ""
    scene.asterisk.variables["DIALEDPEERNAME"] = "PJSIP/1002-9"
    scene.control.look()
    assert scene.left().keys() == {CHANNEL, "PJSIP/1002-9"}


def test_calls_of_other_billers_are_renewed_later(scenes):
    scene = scenes()
    grant = scene.begin(watched=False)
    at = datetime.now(UTC) - timedelta(seconds=grant.seconds - 15)
    ask(scene.engine, CallAnswered("pbx1", "1.0", at))
    scene.sweep()
    scene.control.look()
    assert scene.renewals() == []
    scene.live().answered_at -= timedelta(seconds=6)
    scene.live().look_now(RenewalReason.RENEWAL)
    scene.control.look()
    ((_, before, after),) = scene.renewals()
    assert (before, after) == (grant.seconds, grant.seconds - 15 + 6 + 1 + SLICE)


def test_two_billers_renew_a_call_once(scenes, tmp_path):
    scene = scenes()
    scene.begin(talked=25)
    other = AmiLink(scene.clock, "pbx1", lambda: succeed(scene.asterisk), scene.store)
    other.startService()
    other.live_calls.add_open(scene.live().call, timedelta())
    scene.control.look()
    second = other.live_calls.find("1.0")
    second.answered_at = scene.live().answered_at - timedelta(seconds=12)
    second.seen_at = datetime.now(UTC)
    control = scene.controlling(other)
    control.look()
    assert len(scene.renewals()) == 1
    assert second.call.granted_seconds == scene.live().call.granted_seconds
    other.stopService()


def test_a_channel_known_from_before_is_left_alone(scenes):
    """Asterisk was started again: it gives its channels the same names from the beginning."""
    scene = scenes()
    scene.begin(talked=25)
    scene.asterisk.incomplete = True
    scene.asterisk.loseConnection()
    scene.clock.advance(5)
    assert scene.link.connected
    scene.live().look_now(RenewalReason.RENEWAL)
    scene.control.look()
    assert scene.renewals() == scene.asterisk.limits == []
    scene.asterisk.incomplete = False
    scene.sweep()
    scene.live().look_now(RenewalReason.RENEWAL)
    scene.control.look()
    assert len(scene.renewals()) == 1


def test_a_ledger_that_is_away_is_asked_again(scenes):
    scene = scenes()
    scene.begin(talked=25)
    scene.store.away = True
    scene.control.look()
    assert scene.renewals() == scene.asterisk.limits == []
    scene.store.away = False
    scene.live().look_now(RenewalReason.RENEWAL)
    scene.control.look()
    assert len(scene.renewals()) == 1


def test_a_call_beyond_its_grant_is_hung_up(scenes):
    scene = scenes(credits_=15)
    scene.begin(talked=17)
    scene.control.look()
    assert scene.asterisk.hung_up == [CHANNEL]


def test_a_second_call_shares_the_credit(scenes):
    scene = scenes(credits_=30, slice_seconds=1000)
    assert scene.begin(talked=10).seconds == 30
    second = initiate("2.0", slice_seconds=1000)
    (refusal,) = ask(scene.engine, second)
    assert isinstance(refusal, SharedBalance)
    made = result_of(Deferred.fromCoroutine(scene.control.make_room(refusal.subscriber_id)))
    assert made
    assert scene.renewals() == [("sharing", 30, 20)]
    assert all(9 < seconds < 10.1 for seconds in scene.left().values())
    (grant,) = ask(scene.engine, second)
    assert grant.seconds == 10
    scene.control.look()
    assert len(scene.renewals()) == 1
    assert voice(scene.engine).held == 30
    proved(scene.engine)


def test_shortened_channels_get_their_limit_back(scenes):
    scene = scenes(credits_=30, slice_seconds=1000)
    grant = scene.begin(talked=10)
    scene.store.away = True
    made = result_of(Deferred.fromCoroutine(scene.control.make_room(grant.call.subscriber_id)))
    assert not made
    assert all(19 < seconds < 20.1 for seconds in scene.left().values())
    assert scene.live().limit_seconds == 30


def test_the_last_seconds_are_split(scenes):
    """One call's grant ends while the other has much left: that one leaves it a part."""
    scene = scenes(credits_=30, slice_seconds=1000)
    scene.begin("1.0", talked=18.5)
    result_of(Deferred.fromCoroutine(scene.control.make_room(scene.live().call.subscriber_id)))
    kept = scene.live("1.0").call.granted_seconds
    assert scene.begin("2.0", talked=0).seconds == 30 - kept
    scene.live("1.0").answered_at -= timedelta(seconds=kept - 18.5 - 1.2)
    scene.live("1.0").look_now(RenewalReason.RENEWAL)
    scene.control.look()
    reasons = [reason for reason, _, _ in scene.renewals()]
    assert reasons == ["sharing", "sharing", "sharing"]
    grants = {each: scene.live(each).call.granted_seconds for each in ("1.0", "2.0")}
    assert sum(grants.values()) == 30
    assert grants["1.0"] > kept
    assert {live.limit_seconds for live in scene.link.live_calls} == set(grants.values())
    proved(scene.engine)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"lacking": {"AbsoluteTimeout"}}, "may not set limits"),
        ({"lacking": {"Hangup"}}, "may not set limits"),
        (None, "is down"),
    ],
)
def test_without_ami_calls_hold_everything(scenes, facts, reason):
    scene = scenes()
    assert scene.control.slice_seconds("pbx1") == SLICE
    assert scene.control.faults == {}
    for name, value in (facts or {}).items():
        setattr(scene.asterisk, name, value)
    scene.is_reachable = facts is not None
    scene.asterisk.loseConnection()
    scene.clock.advance(5)
    assert scene.control.slice_seconds("pbx1") is None
    assert reason in scene.control.faults["pbx1"]
    assert scene.control.sliced == {"pbx1": False}
    assert scene.control.slice_seconds("pbx9") is None


def test_no_slices_by_setting_is_no_fault(scenes):
    scene = scenes(slice_seconds=0)
    assert scene.control.slice_seconds("pbx1") is None
    assert scene.control.faults == {}
    assert scene.begin(talked=0).seconds == 600


# -- what acts at once -----------------------------------------------------------------------------------------------


def notice(scene):
    """Let the control look for changes, as it does several times a second."""
    result_of(Deferred.fromCoroutine(scene.control._changes.look()))


def change(scene, **facts):
    with scene.engine.begin() as tx:
        subscriber = subscriber_records.find(tx, "u1001")
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == subscriber.id).values(**facts))
        record_live_change(tx, subscriber.id, datetime.now(UTC))


def test_a_top_up_lengthens_the_last_slice(scenes):
    scene = scenes(credits_=15)
    scene.begin(talked=5)
    notice(scene)
    scene.control.look()
    assert scene.live().is_final
    ask(scene.engine, credit(100, "top-up"))
    notice(scene)
    assert scene.renewals() == [("credit", 15, 6 + SLICE)]
    assert all(SLICE < seconds <= SLICE + 1.1 for seconds in scene.left().values())
    notice(scene)
    assert len(scene.renewals()) == 1


def test_other_subscribers_credits_renew_nothing(scenes):
    scene = scenes(credits_=15)
    scene.begin(talked=5)
    notice(scene)
    scene.control.look()
    ask(scene.engine, credit(100, "top-up", username="u1002"))
    notice(scene)
    assert scene.live().look_at > datetime.now(UTC)
    assert scene.live().reason is RenewalReason.RENEWAL


def test_very_many_credits_wake_calls_without_credit(scenes, monkeypatch):
    monkeypatch.setattr(live_changes, "ROWS_MAX", 0)
    scene = scenes(credits_=15)
    scene.begin(talked=5)
    notice(scene)
    scene.control.look()
    ask(scene.engine, credit(100, "top-up"))
    notice(scene)
    assert [reason for reason, _, _ in scene.renewals()] == ["credit"]


@pytest.mark.parametrize("rings", [True, False])
def test_disabling_a_subscriber_ends_live_calls(scenes, rings):
    scene = scenes()
    scene.begin(talked=None if rings else 5)
    notice(scene)
    assert scene.asterisk.hung_up == []
    change(scene, enabled=False)
    notice(scene)
    assert scene.asterisk.hung_up == [CHANNEL]
    assert scene.metrics_of("celcombiller_hangups_total", reason="disabled") == 1


def test_calls_of_before_a_restart_end_too(scenes):
    """They are first left to another biller, which may have begun them, but not for longer than a second in all."""
    scene = scenes()
    scene.begin(watched=False)
    ask(scene.engine, CallAnswered("pbx1", "1.0", datetime.now(UTC)))
    scene.sweep()
    notice(scene)
    change(scene, enabled=False)
    notice(scene)
    assert scene.asterisk.hung_up == []
    waits = (scene.live().look_at - datetime.now(UTC)).total_seconds()
    assert waits + changes.LOOK_SECONDS + control.LOOK_SECONDS < 1
    scene.live().look_at -= timedelta(seconds=waits + 0.1)
    scene.control.look()
    assert scene.asterisk.hung_up == [CHANNEL]


def test_a_hangup_that_was_not_heard_is_repeated(scenes):
    scene = scenes()
    scene.begin(talked=5)
    notice(scene)
    change(scene, enabled=False)
    notice(scene)
    assert timedelta() < scene.live().look_at - datetime.now(UTC) <= timedelta(seconds=1)
    scene.live().look_at -= timedelta(seconds=1.1)
    scene.control.look()
    assert scene.asterisk.hung_up == [CHANNEL] * 2


def put_in_group(scene, **limits):
    with scene.engine.begin() as tx:
        group = group_records.add(tx, name="shop", now=datetime.now(UTC), **limits)
        tx.execute(sa.update(tables.subscriber).values(group_id=group.id))
        record_live_change(tx, None, datetime.now(UTC))
        number = last_change(tx)
    scene.catalogue.current = replace(scene.catalogue.current, groups={group.id: group}, number=number)


def test_a_lowered_limit_shortens_channels_first(scenes):
    scene = scenes()
    granted = scene.begin(talked=5).seconds
    notice(scene)
    put_in_group(scene, call_seconds_max=15)
    notice(scene)
    assert scene.renewals() == [("limit", granted, 15)]
    assert all(9 < seconds < 10.1 for seconds in scene.left().values())
    assert voice(scene.engine).held == 15


def test_group_changes_wait_for_their_catalogue(scenes):
    scene = scenes()
    scene.begin(talked=5)
    notice(scene)
    with scene.engine.begin() as tx:
        record_live_change(tx, None, datetime.now(UTC))
        record_change(tx)
    change(scene, enabled=False)
    notice(scene)
    assert scene.asterisk.hung_up == []
    scene.catalogue.current = replace(scene.catalogue.current, number=1)
    notice(scene)
    assert scene.asterisk.hung_up == [CHANNEL]


def order(scene, kind=OrderKind.HANGUP, uniqueid="1.0", at=None):
    with scene.engine.begin() as tx:
        made = call_orders.add(
            tx, reference=f"call:pbx1:{uniqueid}:0", kind=kind, reason="fraud", actor="ana", now=at or datetime.now(UTC)
        )
    return made.id


def result_of_order(scene, order_id):
    with scene.engine.begin() as tx:
        return call_orders.find(tx, order_id).result


def test_an_order_hangs_up_its_call_once(scenes):
    scene = scenes()
    scene.begin(talked=5)
    made = order(scene)
    notice(scene)
    assert result_of_order(scene, made) == "done"
    notice(scene)
    assert scene.asterisk.hung_up == [CHANNEL]


def test_a_caller_may_hear_why_it_ends(scenes):
    scene = scenes(hangup_sound="custom/ended")
    scene.begin(talked=5)
    made = order(scene)
    notice(scene)
    assert scene.asterisk.said == [(CHANNEL, "custom/ended")]
    assert (scene.asterisk.hung_up, result_of_order(scene, made)) == ([], "")
    scene.clock.advance(HANGUP_SOUND_SECONDS)
    assert (scene.asterisk.hung_up, result_of_order(scene, made)) == ([CHANNEL], "done")


def test_an_order_that_comes_late_says_so(scenes):
    scene = scenes()
    scene.begin(talked=5)
    ask(scene.engine, ended())
    made = order(scene)
    notice(scene)
    assert result_of_order(scene, made) == "the call was over"
    assert scene.asterisk.hung_up == []


def test_orders_are_first_left_to_the_calls_biller(scenes):
    scene = scenes()
    scene.begin(watched=False)
    scene.sweep()
    made = order(scene)
    notice(scene)
    assert result_of_order(scene, made) == ""
    late = order(scene, at=datetime.now(UTC) - timedelta(seconds=2))
    notice(scene)
    assert result_of_order(scene, late) == "done"


def test_an_order_without_ledger_is_carried_out_again(scenes):
    scene = scenes()
    scene.begin(talked=5)
    made = order(scene)
    scene.store.away = True
    notice(scene)
    assert result_of_order(scene, made) == ""
    scene.store.away = False
    notice(scene)
    assert result_of_order(scene, made) == "done"


# -- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sound", "said"), [("", "tone"), ("custom/credit-ends", "custom/credit-ends")])
def test_warnings_sound_before_the_last_end(scenes, sound, said):
    scene = scenes(credits_=15, warning_seconds=(10, 4), warning_sound=sound)
    scene.begin(talked=0)
    scene.control.look()
    assert scene.asterisk.said == []
    for talked, times in ((5.5, 1), (6.5, 1), (11.2, 2), (14, 2)):
        scene.live().answered_at = datetime.now(UTC) - timedelta(seconds=talked)
        scene.live().look_now(RenewalReason.RENEWAL)
        scene.control.look()
        assert scene.asterisk.said == [(CHANNEL, said)] * times


def test_a_call_that_goes_on_is_not_warned(scenes):
    scene = scenes(warning_seconds=(10,))
    granted = scene.begin(talked=0).seconds
    for talked in range(granted):
        scene.live().answered_at = datetime.now(UTC) - timedelta(seconds=talked)
        scene.live().look_now(RenewalReason.RENEWAL)
        scene.control.look()
    assert scene.asterisk.said == []


def test_operators_let_calls_hear_something(scenes):
    scene = scenes()
    scene.begin(talked=5)
    made = order(scene, OrderKind.SAY)
    notice(scene)
    assert result_of_order(scene, made) == "done"
    assert scene.asterisk.said == [(CHANNEL, "tone")]
