"""Requests of phones for tests: served at once, with hashes that cost nothing."""

import itertools

from celcombiller.core.access.credentials import pins
from celcombiller.core.model.messages import Route
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.text_commands.command_formats import CommandFormat, CommandKind, parse_command
from celcombiller.core.text_commands.command_rules import CommandRules
from celcombiller.core.text_commands.conversation import Conversation
from celcombiller.core.text_commands.phone_requests import PhoneRequest
from tests.support.databases import NOW
from tests.support.selling.sellers import OPERATOR

PIN = "2580"
FORMATS = (
    CommandFormat(CommandKind.SELL, "777", "{pin}#{number}#{amount}"),
    CommandFormat(CommandKind.TRANSFER, "777", "{number}#{amount}"),
    CommandFormat(CommandKind.VOUCHER, "777", "{code}"),
    CommandFormat(CommandKind.CHANGE_PIN, "778", "{old}#{new}#{again}"),
)
WAY = MessagePolicy(on_net_route=Route.ASTERISK)
RULES = CommandRules(formats=FORMATS, policy=WAY)
_numbers = itertools.count(1)


class PlainHashes:
    """In place of Argon2id."""

    async def verify(self, hashed, password, source=""):
        return hashed == f"hash of {password}"

    async def hash(self, password, principal=""):
        return f"hash of {password}"


def set_pin(tx, username="u1001", pin=PIN, now=NOW):
    pins.set_pin(tx, OPERATOR, username, pins.NewPin(pin, f"hash of {pin}"), now)


def request(text, sender="1001", *, to="777", key=None, rules=RULES, **more):
    """Return the request of a text message; each without a key is another message."""
    number = next(_numbers)
    facts = {"has_key": True, "is_trusted": True, "service_code": to, "way": "asterisk"} | more
    return PhoneRequest(
        key=key or f"m{number}",
        command=parse_command(rules.formats, to, text),
        account_code="",
        from_number=sender,
        random=f"{number:032x}",
        **facts,
    )


def serve(engine, asked, *, rules=RULES, now=NOW, dies=None):
    """Serve a request as the service does; ``dies`` is called before each commit."""

    async def transact(work):
        with engine.begin() as tx:
            done = work(tx)
            if dies is not None:
                dies()
            return done

    serving = Conversation(rules, transact, PlainHashes()).serve(asked, now)
    try:
        serving.send(None)
    except StopIteration as over:
        return over.value
    raise AssertionError("it waits for something")
