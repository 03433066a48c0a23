"""What is done to the channels of a live call over AMI: their limits are moved, or they are hung up.

Dial's own limit is on the channel of the callee and a timer of the same kind, so both are moved (`AbsoluteTimeout`
replaces what was set before).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.ami.live_calls import LEFT_LEAST_SECONDS

if TYPE_CHECKING:
    from typing import Any

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.ami.live_calls import LiveCall

TONE_DIGIT = "5"

WHISPER = "Local/s@celcombiller-whisper/n"
"""The channel that whispers to another one."""

WHISPER_SECONDS = 30
"""No sound is longer; the channels that played it end with it at the latest."""

MARGIN_SECONDS = 0.05
"""A channel is cut so much later: the clocks of Asterisk and the biller are compared no better than that.

It costs nothing, as the charge ends with the grant.
"""


async def limit_channels(link: AmiLink, live: LiveCall, seconds: int, ring_seconds: int) -> None:
    """Have a call end so many seconds after its answer, whatever its limit was before.

    Before the answer the limit of the caller's channel has the rest of ``ring_seconds`` in it; the callee's channel
    gets its limit at the answer. Raises `AmiRefused` where the caller's channel is gone, and what a lost link raises.
    """
    left = seconds - link.used_seconds(live) + MARGIN_SECONDS
    if live.answered_at is None:
        left += max(0.0, ring_seconds - (link.now() - live.call.started_at).total_seconds())
    ami = _connection_of(link)
    live.limit_seconds = 0  # not known, should this fail half-way
    await ami.absoluteTimeout(live.call.channel, round(max(LEFT_LEAST_SECONDS, left), 3))
    if live.answered_at is None:
        return
    callee = live.callee_channel or await ami.getVar(live.call.channel, channel_variables.DIALLED_CHANNEL)
    if callee:
        left = seconds - link.used_seconds(live) + MARGIN_SECONDS
        try:
            await ami.absoluteTimeout(callee, round(max(LEFT_LEAST_SECONDS, left), 3))
        except AmiRefused:  # it left after a transfer, and its limit with it
            live.callee_channel = ""
        else:
            live.callee_channel = callee
    live.limit_seconds = seconds


async def hang_up(link: AmiLink, live: LiveCall) -> bool:
    """Hang up the caller's channel of a call; return whether it was there."""
    if not await link.has_channel(live):
        return False
    try:
        await _connection_of(link).hangup(live.call.channel)
    except AmiRefused:
        return False
    return True


async def say(link: AmiLink, live: LiveCall, sound: str) -> None:
    """Play a sound to the caller of a live call, and to them alone; an empty one is a short tone.

    The tone is a digit that Asterisk sends to their phone. A sound is whispered by a channel of its own, which spies on
    the caller's (ChanSpy, in a context of the dialplan fragment); it is heard where the callee's side sends audio.
    Raises `AmiRefused` and what a lost link raises.
    """
    ami, channel = _connection_of(link), live.call.channel
    if not sound:
        await ami.playDTMF(channel, TONE_DIGIT)
        return
    variables = {"CELCOMBILLER_WHISPER": channel, "TIMEOUT(absolute)": WHISPER_SECONDS}
    await ami.originate(WHISPER, application="Playback", data=sound, variable=variables, nowait=True)


def _connection_of(link: AmiLink) -> Any:
    if link.ami is None:
        raise ConnectionDone("the AMI link is down")
    return link.ami
