"""The channels of the played Asterisk: a caller's with its dialplan and its Dial, and the one that Dial makes.

Limits are kept by the wall clock, as Asterisk keeps them, and cut 0 to 5 ms late.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import msgspec

from celcombiller.asterisk.agi import simulator
from tests.chaos.asterisk.agi_session import AgiSession
from tests.chaos.asterisk.plan import FRAGMENT, CallPlan, CallRecord

if TYPE_CHECKING:
    from tests.chaos.asterisk.pbx import Pbx

LATE_SECONDS_MAX = 0.005
STANDS_SECONDS = 5
"""How old a biller's sign of life may be, as the fragment compares it."""
GRANTED = "GRANTED"


class Leg:
    """One side of a call: a channel's name, and the limit on it."""

    def __init__(self, pbx: Pbx, name: str, number: str, linked: Leg | None = None) -> None:
        self.pbx = pbx
        self.name, self.uniqueid = pbx.name_channel(name)
        self.number = number
        self.linkedid = linked.uniqueid if linked else self.uniqueid
        self.peer_number = ""
        self.state = "Ring" if linked is None else "Ringing"
        self.bridge = ""
        self.created = time.monotonic()
        self.hangup, self.crash = asyncio.Event(), asyncio.Event()
        self.how, self.cause = "", 16
        self.ends_at: float | None = None
        """When Asterisk hangs it up, by its wall clock."""
        self._timer: asyncio.TimerHandle | None = None
        pbx.legs[self.name] = self

    @property
    def is_hung_up(self) -> bool:
        """Whether someone or something has hung it up."""
        return self.hangup.is_set()

    @property
    def crashed(self) -> bool:
        """Whether its Asterisk was killed."""
        return self.crash.is_set()

    def hang_up(self, how: str, cause: int = 16) -> None:
        """Hang it up; the first reason stays."""
        if not self.is_hung_up:
            self.how, self.cause = how, cause
            self.hangup.set()

    def limit(self, seconds: float) -> None:
        """Have it hung up after so many seconds from now; 0: never."""
        self.ends_at = self.pbx.wall() + seconds if seconds > 0 else None
        self.arm()

    def arm(self) -> None:
        """Set the timer to its limit, also again after a step of the wall clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.ends_at is not None:
            late = self.pbx.random.uniform(0, LATE_SECONDS_MAX)
            left = max(0.0, self.ends_at - self.pbx.wall()) + late
            self._timer = asyncio.get_running_loop().call_later(left, self.hang_up, "limit")

    def leave(self) -> None:
        """Take it off the list of channels."""
        if self._timer is not None:
            self._timer.cancel()
        self.pbx.legs.pop(self.name, None)


class Channel(Leg, simulator.Channel):
    """A caller's channel."""

    def __init__(self, pbx: Pbx, plan: CallPlan) -> None:
        Leg.__init__(self, pbx, f"PJSIP/{plan.caller}", plan.caller)
        self.caller_number, self.called_number, self.account_code = plan.caller, plan.callee, ""
        self.variables = {"CHANNEL(state)": "Ring", "CHANNEL(accountcode)": "", "TIMEOUT(absolute)": "0"}
        self.transcript = []
        self.plan = plan
        self.record = CallRecord(uniqueid=self.uniqueid, plan=msgspec.to_builtins(plan), began=time.monotonic())
        self._limit_set = "0"

    name = ""  # `Leg` sets it, where the simulator makes it of the caller's number

    def chance(self, share: float) -> bool:
        """Return whether something that happens in this share of all cases happens now."""
        return self.pbx.random.random() < share

    # -- the dialplan --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make the whole call."""
        record = self.record
        try:
            self._will_give_up()
            await (self._fragment() if self.plan.dialplan == FRAGMENT else self._two_lines())
        finally:
            if self.crashed:
                self.how = "crash"
            else:
                self.pbx.emit_hangup(self)
            self.leave()
            record.gone = time.monotonic()
            record.how = record.how or self.how or "dialplan"
            record.status = self.variables.get("DIALSTATUS", "")
            record.result = self.variables.get("CELCOMBILLER_RESULT", "")
            record.settled = self.variables.get("CELCOMBILLER_SETTLED") == "1"

    async def _fragment(self) -> None:
        """Do as ``etc/asterisk/extensions.conf``."""
        _first, second = self.pbx.billers
        asked = False
        if second is None or not self.pbx.stands_still():
            asked = True
            await self._agi(0, "caller", "stamp=celcombiller-answered")
        if not self._result and second is not None:
            await self._agi(1, "caller", "stamp=celcombiller-answered")
            if not self._result and not asked:
                await self._agi(0, "caller", "stamp=celcombiller-answered")
        await self._go_on_elsewhere()
        self.hang_up("dialplan")
        if self.crashed:
            return
        self.variables["CELCOMBILLER_ENDED"] = self.pbx.now()
        if second is None or not self.pbx.stands_still():
            await self._agi(0, "reducer")
        if self.variables.get("CELCOMBILLER_SETTLED") != "1" and second is not None:
            await self._agi(1, "reducer")
        if self.variables.get("CELCOMBILLER_SETTLED") != "1" and self._result == GRANTED and not self.crashed:
            names = ("DIALSTATUS", "ANSWEREDTIME_MS", "CELCOMBILLER_ANSWERED", "CELCOMBILLER_ENDED")
            self.pbx.notes[self.uniqueid] = "|".join(self.variables.get(name, "") for name in names)
            self.record.noted = True

    async def _two_lines(self) -> None:
        """Do as the two lines of the original."""
        await self._agi(0, "caller")
        await self._go_on_elsewhere()
        self.hang_up("dialplan")
        if not self.crashed:
            await self._agi(0, "reducer")

    @property
    def _result(self) -> str:
        return self.variables.get("CELCOMBILLER_RESULT", "")

    async def _agi(self, biller: int, script: str, argument: str = "") -> None:
        if self.crashed or (script == "caller" and self.is_hung_up):
            return
        began = time.monotonic()
        session = AgiSession(self, after_hangup=script == "reducer")
        how = await session.run(self.pbx.billers[biller], script, argument)
        self.record.sessions.append((began, time.monotonic(), script, biller, how))

    async def _go_on_elsewhere(self) -> None:
        """Talk where the callee sent the caller, to the true end of this channel."""
        if self.record.how == "transfer" and not self.is_hung_up:
            await self._until(self.plan.more_seconds, self)
            self.record.ended = time.monotonic()

    def _will_give_up(self) -> None:
        """A caller who cancels does so while it rings, or before, if the biller takes long."""
        if self.plan.outcome == "CANCEL":
            asyncio.get_running_loop().call_later(self.plan.ring_seconds, self.hang_up, "caller", 127)

    # -- what a script asks of it --------------------------------------------------------------------------------------

    def apply_limit(self) -> None:
        """Set the limit that a script has just set, if it did."""
        wanted = self.variables["TIMEOUT(absolute)"]
        if wanted != self._limit_set:
            self._limit_set = wanted
            self.set_limit(float(wanted or 0), by="script")

    def set_limit(self, seconds: float, *, by: str) -> None:
        """Set the limit of this channel, and keep that it was set."""
        self.record.limits.append((time.monotonic(), f"{by} caller", seconds))
        self.limit(seconds)

    def _expand(self, text: str) -> str:
        if "${STRFTIME(" in text:
            text = re.sub(r"\$\{STRFTIME\([^}]*\}", self.pbx.now(), text)
        return simulator.Channel._expand(self, text)

    async def dial(self, argument: str) -> str:
        """Dial the callee; return the answer of ``EXEC DIAL`` when the Dial is over."""
        plan, values = self.plan, self.variables
        values |= dict.fromkeys(("DIALSTATUS", "ANSWEREDTIME", "ANSWEREDTIME_MS", "DIALEDTIME_MS"), "")
        options = argument.split(",", 2)[2] if argument.count(",") > 1 else ""
        limits = [float(n) / (1000 if kind == "L" else 1) for kind, n in re.findall(r"([LS])\(([0-9]+)", options)]
        if self.is_hung_up:
            values["DIALSTATUS"] = "CANCEL"
            return "200 result=-1"
        if 0 in limits:
            values["DIALSTATUS"] = "INVALIDARGS"
            return "200 result=-1"
        callee = Leg(self.pbx, f"PJSIP/{plan.callee}", plan.callee, linked=self)
        self.peer_number, callee.peer_number = callee.number, self.number
        self.pbx.emit_dial("DialBegin", self, callee, f"DialString: {plan.callee}")
        try:
            await self._until(plan.ring_seconds, self)
            if self.crashed:
                return ""
            if self.is_hung_up or plan.outcome != "ANSWER":
                return self._not_answered(callee)
            return await self._talk(callee, min(limits, default=0.0), stamped="U(" in options)
        finally:
            callee.leave()

    def _not_answered(self, callee: Leg) -> str:
        status = "CANCEL" if self.is_hung_up else self.plan.outcome
        status = "NOANSWER" if status == "CANCEL" and not self.is_hung_up else status
        cause = {"BUSY": 17, "NOANSWER": 0, "CANCEL": 127}[status]
        self.variables |= {"DIALSTATUS": status, "HANGUPCAUSE": str(cause)}
        self.pbx.emit_dial("DialEnd", self, callee, f"DialStatus: {status}")
        callee.cause = cause
        self.pbx.emit_hangup(callee)
        return "200 result=-1" if self.is_hung_up else "200 result=0"

    async def _talk(self, callee: Leg, limit_seconds: float, *, stamped: bool) -> str:
        record, values = self.record, self.variables
        record.answered = time.monotonic()
        answered_at = self.pbx.wall()
        if stamped:
            values["CELCOMBILLER_ANSWERED"] = self.pbx.now()
        self.state = callee.state = "Up"
        self.bridge = callee.bridge = f"bridge-{self.uniqueid}"
        values["CHANNEL(state)"] = "Up"
        values["CDR(answer,u)"] = f"{answered_at:.6f}"
        if limit_seconds:
            callee.limit(limit_seconds)
            record.limits.append((time.monotonic(), "dial callee", limit_seconds))
        self.pbx.emit_dial("DialEnd", self, callee, "DialStatus: ANSWER")
        await self._until(self.plan.talk_seconds, self, callee)
        record.ended = time.monotonic()
        if self.crashed:
            record.how = "crash"
            return ""
        talk_ms = int((self.pbx.wall() - answered_at) * 1000)
        values |= {"DIALSTATUS": "ANSWER", "HANGUPCAUSE": "16", "DIALEDTIME_MS": str(talk_ms + 6)}
        self.bridge = ""
        is_cut = self.is_hung_up or callee.is_hung_up
        if not is_cut and self.plan.ended_by == "transfer":
            record.how = "transfer"
            self.pbx.emit_transfer(self, callee)
            self.pbx.emit_hangup(callee)
            return "200 result=0\nHANGUP"
        record.how = self.how or callee.how or self.plan.ended_by
        if not is_cut:
            (self if self.plan.ended_by == "caller" else callee).hang_up(self.plan.ended_by)
            self.pbx.emit_hangup_request(self if self.plan.ended_by == "caller" else callee)
        values |= {"ANSWEREDTIME": str(talk_ms // 1000), "ANSWEREDTIME_MS": str(talk_ms)}
        if self.chance(0.5):  # the callee's Hangup may come before or after the answer of the Dial
            self.pbx.emit_hangup(callee)
        else:
            asyncio.get_running_loop().call_later(self.pbx.random.uniform(0, 0.003), self.pbx.emit_hangup, callee)
        return "200 result=-1"

    async def _until(self, seconds: float, *legs: Leg) -> None:
        """Wait so long, or until one of these is hung up."""
        waits = [asyncio.ensure_future(leg.hangup.wait()) for leg in legs]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
