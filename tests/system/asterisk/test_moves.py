"""Calls that move: transferred, forwarded, parked, picked up, queued. Who pays, how long, and whether the limit holds.

All scenes are played at once on one Asterisk with one biller: each with credit enough, and once more for each who pays
in it, with credit that does not suffice. That takes about 15 s, and as long again with slices; the tests look at what
the scenes left.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.system.lab.asterisk import SOFT_PHONES
from tests.system.lab.biller import Biller
from tests.system.lab.soft_phones import Exchange, Leg, Phone
from tests.system.lab.switchboard import Switchboard
from tests.system.lab.waiting import until

pytestmark = pytest.mark.xdist_group("moves")

NAMES = ("ana", "bea", "cid")
RICH, POOR = 60, 6
PARKED_SECONDS = 2
"""As long as in res_parking.conf."""


@dataclass
class Stage:
    """One playing of a scene: three phones, and who pays for which talk by this record."""

    exchange: Exchange
    switchboard: Switchboard
    pbx: object
    numbers: range
    poor: str = ""
    paid: list[tuple[str, Leg]] = field(default_factory=list)
    fault: str = ""

    def __post_init__(self) -> None:
        self.ana, self.bea, self.cid = (self._phone(number) for number in self.numbers)

    def _phone(self, number: int) -> Phone:
        return self.exchange.phone(number, self.pbx.port_of_soft_phone(number), speaks=True)

    def number_of(self, name: str) -> int:
        return getattr(self, name).number

    def pays(self, name: str, leg: Leg) -> Leg:
        """Have this phone pay for the talk of a leg, by this record."""
        self.paid.append((name, leg))
        return leg

    def talk(self) -> Leg:
        """Have Ana call Bea, and talk a little."""
        leg = self.pays("ana", self.ana.call(self.bea.number)).until_answered()
        time.sleep(1)
        return leg

    def act(self, action: str, whose: Phone, **fields: object) -> None:
        """Have the switchboard do something to a phone's channel."""
        self.switchboard.act(action, Channel=self.switchboard.channel_of(whose.number), **fields)

    def press(self, whose: Phone, keys: str) -> None:
        """Have a phone's channel hear keys, as fingers press them."""
        channel = self.switchboard.channel_of(whose.number)
        for key in keys:
            self.switchboard.act("PlayDTMF", Channel=channel, Digit=key, Receive="true", Duration=100)
            time.sleep(0.15)

    def park(self, leg: Leg, parked: Phone) -> str:
        """Have a phone park the other side of its leg, and leave; return where it is."""
        leg.refer("700")
        space = re.compile(rf"Space +: +(\d+)\s+Channel +: +PJSIP/{parked.number}-")
        found = until(
            lambda: space.search(self.pbx.cli("parking show default")), f"{parked.number} is parked", seconds=10
        )
        leg.hang_up()
        return found[1]

    def talked(self, name: str) -> list[float]:
        """Return how long each leg was that this one pays for, in seconds, ascending."""
        return sorted(leg.talk for payer, leg in self.paid if payer == name)

    def end(self, leg: Leg, *others: Leg) -> None:
        """Talk on, and hang up; or until the one who is poor is cut."""
        if self.poor:
            leg.until_ended(POOR + 10)
        else:
            time.sleep(2)
            leg.hang_up()
        for each in others:
            each.until_ended()


# -- scenes ---------------------------------------------------------------------------------------------------------


def sent_on_by_callee(stage, refer):
    """Ana pays to her end, and Bea for where she sends Ana."""
    leg = stage.talk()
    refer(stage, stage.bea, stage.cid.number)
    there = stage.pays("bea", stage.cid.incoming()).until_answered()
    stage.end(leg if stage.poor != "bea" else there, leg, there)


def sent_on_by_caller(stage, refer):
    """Ana pays for both talks, one after the other."""
    leg = stage.talk()
    refer(stage, stage.ana, stage.cid.number)
    there = stage.pays("ana", stage.cid.incoming()).until_answered()
    leg.hang_up()
    stage.end(there)


def by_refer(stage, phone, number):
    leg = stage.ana.legs[0] if phone is stage.ana else stage.bea.incoming()
    leg.refer(number)


def by_switchboard(stage, phone, number):
    stage.act("BlindTransfer", phone, Context="movers", Exten=number)


def by_keys(stage, phone, number):
    stage.press(phone, f"#{number}")


def attended_by_callee(stage):
    """Bea asks Cid first, and goes on paying for Cid's leg after she left."""
    leg = stage.talk()
    asked = stage.bea.call(stage.cid.number).until_answered()
    there = stage.pays("bea", stage.cid.incoming())
    time.sleep(0.7)
    stage.bea.incoming().refer(stage.cid.number, replaces=asked)
    for each in (stage.bea.incoming(), asked):
        each.hang_up()
    stage.end(leg if stage.poor != "bea" else there, leg, there)


def attended_by_caller(stage):
    """Ana's first call ends when she leaves; the second goes on at her cost."""
    leg = stage.talk()
    asked = stage.ana.call(stage.cid.number).until_answered()
    there = stage.pays("ana", stage.cid.incoming())
    time.sleep(0.7)
    leg.refer(stage.cid.number, replaces=asked)
    for each in (leg, asked):
        each.hang_up()
    stage.end(there)


def attended_by_callee_with_feature(stage):
    leg = stage.talk()
    stage.act("Atxfer", stage.bea, Context="movers", Exten=stage.cid.number)
    there = stage.pays("bea", stage.cid.incoming()).until_answered()
    time.sleep(0.7)
    stage.bea.incoming().hang_up()
    stage.end(leg if stage.poor != "bea" else there, leg, there)


def attended_by_caller_with_feature(stage):
    leg = stage.talk()
    stage.act("Atxfer", stage.ana, Context="movers", Exten=stage.cid.number)
    there = stage.pays("ana", stage.cid.incoming()).until_answered()
    time.sleep(0.7)
    leg.hang_up()
    stage.end(there)


def caller_redirected(stage):
    leg = stage.talk()
    stage.act("Redirect", stage.ana, Context="movers", Exten=stage.cid.number, Priority=1)
    stage.cid.incoming().until_answered()
    stage.end(leg)


def callee_redirected(stage):
    """Bea is a caller of her own then."""
    leg = stage.talk()
    stage.act("Redirect", stage.bea, Context="movers", Exten=stage.cid.number, Priority=1)
    there = stage.pays("bea", stage.cid.incoming()).until_answered()
    leg.until_ended()
    stage.end(there)


def both_redirected(stage):
    """Ana goes to Cid, and Bea to a conference that nobody is asked to pay for."""
    leg = stage.talk()
    other = stage.switchboard.channel_of(stage.bea.number)
    more = {
        "ExtraChannel": other,
        "ExtraContext": "services",
        "ExtraExten": f"53{stage.bea.number}",
        "ExtraPriority": 1,
    }
    stage.act("Redirect", stage.ana, Context="movers", Exten=stage.cid.number, Priority=1, **more)
    stage.cid.incoming().until_answered()
    stage.end(leg)


def parked_by_callee(stage):
    leg = stage.talk()
    back = stage.cid.call(stage.park(stage.bea.incoming(), stage.ana)).until_answered()
    stage.end(leg, back)


def parked_by_caller(stage):
    """Ana set Bea's leg up, and pays while it waits and for the talk with whoever takes it back."""
    leg = stage.talk()
    stage.paid[:] = [("ana", stage.bea.incoming())]
    back = stage.cid.call(stage.park(leg, stage.bea)).until_answered()
    stage.end(stage.bea.incoming(), back)


def parked_and_forgotten(stage):
    """Bea is rung again, and goes on talking."""
    leg = stage.talk()
    stage.park(stage.bea.incoming(), stage.ana)
    stage.bea.incoming(1, seconds=PARKED_SECONDS + 8).until_answered()
    stage.end(leg)


def picked_up_by_number(stage):
    stage.bea.does = "rings"
    leg = stage.pays("ana", stage.ana.call(stage.bea.number))
    stage.bea.incoming()
    stage.cid.call(f"*8{stage.bea.number}")
    leg.until_answered()
    stage.end(leg)


def picked_up_in_group(stage):
    stage.bea.does = "rings"
    leg = stage.pays("ana", stage.ana.call(stage.bea.number))
    stage.bea.incoming()
    stage.cid.call("*7")
    leg.until_answered()
    stage.end(leg)


def forwarded(stage):
    """Bea's phone answers 302: Ana pays for her call to Bea, and Bea for hers to Cid."""
    stage.bea.forward_to = str(stage.cid.number)
    leg = stage.pays("ana", stage.ana.call(stage.bea.number)).until_answered()
    there = stage.pays("bea", stage.cid.incoming())
    stage.end(leg if stage.poor != "bea" else there, leg, there)


def called(stage, number):
    """Ana pays for one call, whatever is behind the number."""
    leg = stage.pays("ana", stage.ana.call(number.format(bea=stage.bea.number))).until_answered()
    stage.end(leg)


def followed_to_the_phone(stage):
    """FollowMe answers Ana, rings Bea, and asks her to take the call."""
    leg = stage.pays("ana", stage.ana.call(f"54{stage.bea.number}")).until_answered()
    stage.bea.incoming().until_answered()
    stage.press(stage.bea, "1")
    stage.end(leg)


def followed(stage):
    """Bea has calls follow her to Cid: Ana pays for her call to the number, and Bea for hers to Cid."""
    leg = stage.pays("ana", stage.ana.call(f"59{stage.bea.number}")).until_answered()
    there = stage.pays("bea", stage.cid.incoming())
    stage.end(leg if stage.poor != "bea" else there, leg, there)


def called_twice_on_one_channel(stage):
    leg = stage.ana.call(f"*91{stage.bea.number}").until_answered()
    first = stage.pays("ana", stage.bea.incoming()).until_answered()
    time.sleep(1)
    first.hang_up()
    second = stage.pays("ana", stage.cid.incoming()).until_answered()
    stage.end(second, leg)


BOTH = ("ana", "bea")
SCENES = {
    # Pressing keys takes about as long as little credit lasts.
    **{
        f"callee transfers {how.__name__}": (
            lambda stage, how=how: sent_on_by_callee(stage, how),
            () if how is by_keys else BOTH,
        )
        for how in (by_refer, by_switchboard, by_keys)
    },
    **{
        f"caller transfers {how.__name__}": (
            lambda stage, how=how: sent_on_by_caller(stage, how),
            () if how is by_keys else ("ana",),
        )
        for how in (by_refer, by_switchboard, by_keys)
    },
    "attended by callee": (attended_by_callee, BOTH),
    # Who has little credit has none left for a second call.
    "attended by caller": (attended_by_caller, ()),
    "attended by callee with feature": (attended_by_callee_with_feature, BOTH),
    "attended by caller with feature": (attended_by_caller_with_feature, ()),
    "caller redirected": (caller_redirected, ("ana",)),
    "callee redirected": (callee_redirected, ("bea",)),
    "both redirected": (both_redirected, ("ana",)),
    "parked by callee": (parked_by_callee, ("ana",)),
    "parked by caller": (parked_by_caller, ("ana",)),
    "parked and forgotten": (parked_and_forgotten, ("ana",)),
    "picked up by number": (picked_up_by_number, ("ana",)),
    "picked up in group": (picked_up_in_group, ("ana",)),
    "forwarded": (forwarded, BOTH),
    "queue": (lambda stage: called(stage, "51{bea}"), ("ana",)),
    "queue whose agents are dialled through the biller": (lambda stage: called(stage, "52{bea}"), ("ana",)),
    "conference": (lambda stage: called(stage, "53{bea}"), ("ana",)),
    "FollowMe": (followed_to_the_phone, ("ana",)),
    "ring group": (lambda stage: called(stage, "55{bea}"), ("ana",)),
    "Local chain": (lambda stage: called(stage, "56{bea}"), ("ana",)),
    "Local chain that is optimized": (lambda stage: called(stage, "57{bea}"), ("ana",)),
    "Local chain through the biller": (lambda stage: called(stage, "58{bea}"), ("ana",)),
    "follows at the callee's cost": (followed, BOTH),
    "second call on one channel": (called_twice_on_one_channel, ("ana",)),
}
PLAYED = [(name, poor) for name, (_, payers) in SCENES.items() for poor in ("", *payers)]


AGAIN = (8, 1)
"""How many scenes are played at once of those that failed: with all at once, Asterisk may stand still."""


class Theatre:
    """All scenes, played at once; what the biller says of them."""

    def __init__(self, pbx, folder, slice_seconds: int) -> None:
        pbx.begin()
        self.biller = Biller(folder, agi_port=pbx.agi_port, pbx=pbx)
        self.biller.calls |= {
            "external_dial": "Local/{number}@services/n",
            "dial_options": "gtTkK",
            "ring_seconds": 10,
            "max_call_seconds": RICH // 2,
            "slice_seconds": slice_seconds,
        }
        self.exchange, self.switchboard = Exchange(pbx.sip_port), Switchboard(pbx.ami_port)
        phones = iter(range(SOFT_PHONES.start, SOFT_PHONES.stop, 4))
        self.stages = {each: self._set_stage(pbx, next(phones), each[1]) for each in PLAYED}
        poor = {stage.number_of(stage.poor): POOR for stage in self.stages.values() if stage.poor}
        try:
            self.biller.prepare_at_once(dict.fromkeys(SOFT_PHONES, RICH) | poor).start()
            faults = self._play_all(pbx, PLAYED, len(PLAYED))
            (folder / "faults").write_text("\n".join(f"{each}: {fault}" for each, fault in faults.items()))
            for at_once in AGAIN:
                again = list(zip(faults, phones, strict=False))
                for each, first in again:
                    stage = self.stages[each] = self._set_stage(pbx, first, each[1])
                    if stage.poor:
                        self.biller.run("credit", f"user{stage.number_of(stage.poor)}", POOR - RICH)
                faults = self._play_all(pbx, [each for each, _ in again], at_once)
            self.audit = self.biller.json("audit")
            self.notes = pbx.notes()
            (folder / "asterisk.log").write_text(pbx.log)
        finally:
            self.exchange.stop()
            self.biller.stop()
            self.switchboard.close()

    def _set_stage(self, pbx, first: int, poor: str) -> Stage:
        return Stage(self.exchange, self.switchboard, pbx, range(first, first + 3), poor=poor)

    def _play_all(self, pbx, scenes: list[tuple[str, str]], at_once: int) -> dict[tuple[str, str], str]:
        """Play scenes, so many at once; return what is not right with which."""
        faults = {}
        for start in range(0, len(scenes), at_once):
            chunk = scenes[start : start + at_once]
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(self._play, chunk, range(at_once)))
            self._clear(pbx)
            faults |= {each: fault for each in chunk if (fault := self.find_fault(each))}
        return faults

    def _clear(self, pbx) -> None:
        """End what a scene left that failed, and read the calls once none is open."""
        self.exchange.hang_up_all()
        pbx.hang_up_all()  # this may start it again
        self.switchboard.close()
        self.switchboard.connect()
        until(
            lambda: all(row["state"] != "open" for row in self.biller.json("calls", "--limit", 1000)),
            "no call is open",
        )
        self.calls = self.biller.json("calls", "--limit", 1000)

    def _play(self, played: tuple[str, str], place: int) -> None:
        time.sleep(place * 0.05)  # as calls come, and not all in one moment
        stage = self.stages[played]
        try:
            SCENES[played[0]][0](stage)
        except AssertionError as error:
            stage.fault = str(error)

    def calls_of(self, number: int) -> list[dict]:
        return [row for row in self.calls if row["user"] == f"user{number}"]

    def find_fault(self, played: tuple[str, str]) -> str:
        """Return what is not right with a scene as it was played last: who paid, and for how long; "" where all is."""
        stage = self.stages[played]
        calls = {name: self.calls_of(stage.number_of(name)) for name in NAMES}
        if stage.fault:
            return f"{stage.fault}: {calls}"
        for name in NAMES:
            talked, cost = sum(stage.talked(name)), sum(row["cost"] or 0 for row in calls[name])
            if name == stage.poor:
                right = cost == POOR and abs(talked - POOR) <= 1.2
            else:
                # Each charge is of begun seconds, and a leg that goes on without who set it up is charged in two parts.
                right = talked - 1 <= cost <= talked + 1 + len(calls[name])
            if not right:
                return f"{name} talked {stage.talked(name)} s and paid {cost}: {calls}"
        return ""


@pytest.fixture(scope="module", params=[0, 4], ids=["whole", "slices"])
def theatre(request, asterisk, tmp_path_factory):
    return Theatre(asterisk, tmp_path_factory.mktemp("moves") / "biller", request.param)


@pytest.mark.parametrize(
    "played", PLAYED, ids=[" ".join(filter(None, (name, poor and f"{poor} poor"))) for name, poor in PLAYED]
)
def test_who_set_a_leg_up_pays_for_it(theatre, played):
    assert theatre.find_fault(played) == ""


def test_the_books_are_right_after_all_moves(theatre):
    assert theatre.audit["ok"], theatre.audit["differences"]
    assert theatre.notes == ""
    assert "Traceback" not in theatre.biller.log
