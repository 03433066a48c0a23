"""The calls of a run, drawn from its seed: the same seed makes the same calls at the same moments."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_CALLER = 1000
FIRST_CALLEE = 2000
CALLERS, CALLEES = 40, 10

FRAGMENT, TWO_LINES = "fragment", "two-lines"
"""The dialplan of a caller: the one that is shipped, or the two lines of the original, which leave no note."""


class CallPlan(msgspec.Struct, frozen=True):
    """One call, as its two people would make it if nothing stopped them."""

    number: int
    at_seconds: float
    caller: str
    callee: str
    dialplan: str
    ring_seconds: float
    outcome: str
    """ANSWER, BUSY, NOANSWER or CANCEL: the caller gives up."""
    talk_seconds: float
    ended_by: str
    """``caller``, ``callee``, or ``transfer``: the callee sends the caller elsewhere and leaves."""
    more_seconds: float = 0.0
    """How long a caller who was sent elsewhere talks there."""


class Plan(msgspec.Struct, frozen=True):
    """What the played Asterisk is and does."""

    seed: str
    seconds: float
    rate: float
    ami_port: int
    agi_ports: tuple[int, ...]
    """The billers that the dialplan asks, in its order."""
    secret: str
    talk_seconds: tuple[float, float] = (1.0, 20.0)
    two_lines_share: float = 0.15
    transfer_share: float = 0.03


def draw_calls(plan: Plan) -> Iterator[CallPlan]:
    """Yield the calls in the order in which they begin."""
    drawn = random.Random(f"{plan.seed} calls")
    at, number = 0.0, 0
    while (at := at + drawn.expovariate(plan.rate)) < plan.seconds:
        number += 1
        low, high = plan.talk_seconds
        yield CallPlan(
            number=number,
            at_seconds=at,
            caller=str(FIRST_CALLER + drawn.randrange(CALLERS)),
            callee=str(FIRST_CALLEE + drawn.randrange(CALLEES)),
            dialplan=TWO_LINES if drawn.random() < plan.two_lines_share else FRAGMENT,
            ring_seconds=drawn.uniform(0.0, 0.6),
            outcome=drawn.choices(("ANSWER", "BUSY", "NOANSWER", "CANCEL"), (85, 5, 4, 6))[0],
            talk_seconds=low + (high - low) * drawn.random() ** 2,
            ended_by="transfer" if drawn.random() < plan.transfer_share else drawn.choice(("caller", "callee")),
            more_seconds=drawn.uniform(0.5, 3.0),
        )


class CallRecord(msgspec.Struct):
    """What the script knows of one call, by a clock that no fault sets (``time.monotonic``)."""

    uniqueid: str
    plan: dict[str, Any]
    began: float
    answered: float | None = None
    ended: float | None = None
    """The end of the talk."""
    gone: float | None = None
    """The end of the caller's channel."""
    how: str = ""
    """Who ended it: caller, callee, limit, manager, restart, crash, transfer, refused."""
    status: str = ""
    result: str = ""
    settled: bool = False
    """A biller said that the charge is safe."""
    noted: bool = False
    """The dialplan left a note of the end."""
    limits: list[tuple[float, str, float]] = []
    """The moments at which a limit was set, on which channel, to how many seconds."""
    sessions: list[tuple[float, float, str, int, str]] = []
    """Its AGI sessions: from, until, script, biller, how each ended."""

    @property
    def talk_ms(self) -> int:
        """The milliseconds that they talked."""
        if self.answered is None:
            return 0
        return int(((self.ended or self.answered) - self.answered) * 1000)
