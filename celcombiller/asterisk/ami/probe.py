"""What an AMI link cannot do, asked at its login: rights, modules, and the name that Asterisk calls itself.

``ListCommands`` lists the actions that the user may take, and an unknown dialplan function has an empty value. Which
events come through cannot be asked: `celcombiller.asterisk.ami.live_calls`
notices those that should have come and did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celcombiller.asterisk.ami.codec import AmiRefused

_ACTIONS = {
    "Status": "call",
    "AbsoluteTimeout": "call",
    "Hangup": "call",
    "PlayDTMF": "call",
    "Getvar": "call",
    "Setvar": "call",
    "DBGet": "reporting",
    "CoreSettings": "reporting",
}
"""The actions that the biller takes, and the right among ``write=`` that manager.conf gives them by."""

_MESSAGES = {"MessageSend": "message"}
_SOUNDS = {"Originate": "originate"}

_FUNCTIONS = {
    "func_timeout": ("TIMEOUT(absolute)", "the limit of a call is set less exactly"),
    "func_strings": ("STRFTIME(,,%s)", "talk is measured less exactly, and the dialplan fragment does not work"),
    "func_db": ("DB_EXISTS(celcombiller/none)", "ends of calls are not noted while the biller is away"),
}
"""For each module a function of it that has a value without a channel, and what is lost without it."""

_TIME = "func_strings"

NO_EVENTS = 'its AMI user hears no events: put "read=call,system" in manager.conf'
UNHEARD = {
    "DialEnd": 'no DialEnd came of answered calls: "read=" in manager.conf needs call, and an eventfilter must pass it',
    "Hangup": 'no Hangup came of ended calls: "read=" in manager.conf needs call, and an eventfilter must pass it',
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found. ``system_name``: systemname in its asterisk.conf, empty if there is none; ``None``: not known."""

    system_name: str | None = None
    faults: tuple[str, ...] = ()
    may_limit: bool = False
    """Whether the limit of a live call can be moved, and the call be hung up."""
    tells_time: bool = False
    """Whether a channel can say what time it is by Asterisk's clock."""


async def probe(ami: Any, *, sends_messages: bool = False, plays_sounds: bool = False) -> Probed:
    """Return what a logged-in connection, ours or starpy's, cannot do."""
    listed = await ami.sendDeferred({"Action": "ListCommands"})
    allowed = {key.lower() for key in listed}
    wanted = _ACTIONS | (_MESSAGES if sends_messages else {}) | (_SOUNDS if plays_sounds else {})
    lacking = {name: right for name, right in wanted.items() if name.lower() not in allowed}
    faults, tells_time = [], False
    if lacking:
        names, rights = ", ".join(lacking), ",".join(dict.fromkeys(lacking.values()))
        faults.append(f'its AMI user may not {names}: "write=" in manager.conf needs {rights}')
    if "Getvar" not in lacking:
        for module, (function, loss) in _FUNCTIONS.items():
            if await _has_function(ami, function):
                tells_time = tells_time or module == _TIME
            else:
                faults.append(f"{module} is not loaded: {loss}")
    name = None
    if "CoreSettings" not in lacking:
        name = (await ami.sendDeferred({"Action": "CoreSettings"})).get("systemname")
    may_limit = lacking.keys().isdisjoint(("AbsoluteTimeout", "Hangup"))
    return Probed(name, tuple(faults), may_limit=may_limit, tells_time=tells_time)


async def _has_function(ami: Any, function: str) -> bool:
    try:
        return bool(await ami.getVar(None, function))
    except AmiRefused:
        return False
