"""The ``balance`` script: it tells who asks what he has, aloud, charges nothing, and is not upset by anything."""

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.asterisk.scripts import balance
from celcombiller.config.tables import Balance, Config, Prompts, Sms
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import ask, credit, proved, voice
from tests.support.script_biller import House


class Listening(Channel):
    """A channel that lacks some sounds and may hang up before one; it keeps what was heard."""

    def __init__(self, caller="1001", *, lacks=(), hangs_up_at=None, quiet=False, **facts):
        super().__init__(caller, "*100", **facts)
        self.heard, self.lacks, self.hangs_up_at, self.quiet = [], lacks, hangs_up_at, quiet

    def environment(self, script, host, *, extension=None):
        sent = super().environment(script, host, extension=extension)
        return sent[:-1] + b"agi_arg_1: quiet\n\n" if self.quiet else sent

    def answer(self, line):
        verb = " ".join(line.split(" ")[:2])
        if verb not in ("STREAM FILE", "SAY NUMBER", "SAY DIGITS"):
            return super().answer(line)
        what = line.split(" ")[2]
        if self.hangs_up_at in self.heard:
            return "511 Command Not Permitted on a dead channel or intercept routine"
        if what in self.lacks or verb in self.lacks:
            return "200 result=0 endpos=0" if verb == "STREAM FILE" else "200 result=-1"
        self.heard.append(what)
        if what == self.hangs_up_at:
            return "200 result=-1 endpos=160" if verb == "STREAM FILE" else "200 result=-1"
        return super().answer(line)


@pytest.fixture
def house(tmp_path, monkeypatch):
    made = House(tmp_path / "db.sqlite")
    made.said = []
    monkeypatch.setattr(balance, "_LOG", Said(made.said))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


class Said:
    """A log that keeps its lines."""

    def __init__(self, lines):
        self._lines = lines

    def _keep(self, text, **fields):
        self._lines.append(text.format(**fields))

    info = warn = error = _keep


async def told(house, channel=None, **facts):
    channel = channel or Listening(**facts)
    return await play(reactor, "127.0.0.1", house.port.getHost().port, channel, scripts=("balance",))


def have(house, posted, held=0, kind="voice"):
    """Give the caller this balance, as no ledger could if it is odd."""
    with house.engine.begin() as tx:
        mine = tables.account.c.id.in_(
            sa.select(tables.account.c.id)
            .join(tables.subscriber)
            .where(tables.subscriber.c.username == "u1001", tables.account.c.kind == kind)
        )
        tx.execute(sa.update(tables.account).where(mine).values(posted=posted, held=held))


@pytest.mark.parametrize(
    ("posted", "heard"),
    [
        (60, "1 minute"),
        (125, "2 minutes 5 seconds"),
        (1, "1 second"),
        (0, "0 seconds"),
        (-90, "digits/minus 1 minute 30 seconds"),
        (2**53 - 1, f"{(2**53 - 1) // 60} minutes 31 seconds"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_balance_is_said_in_minutes_and_seconds(house, posted, heard):
    have(house, posted)
    channel = await told(house)
    commands = [line for side, line in channel.transcript if side == "biller"]
    assert commands.index("ANSWER") < commands.index('STREAM FILE vm-youhave ""')
    assert " ".join(channel.heard) == f"vm-youhave {heard}"
    assert channel.variables["CELCOMBILLER_BALANCE"] == str(posted)
    assert house.said == []


@pytest_twisted.ensureDeferred
async def test_what_a_call_holds_is_not_available(house):
    have(house, 125, held=100)
    assert (await told(house)).heard == ["vm-youhave", "25", "seconds"]


@pytest_twisted.ensureDeferred
async def test_a_balance_in_money_is_said_as_number(house):
    settings = Config(balance=Balance(say="number", scale=2, intro="", unit="digits/dollars"))
    house.scripts.balance._config = settings
    have(house, 1250)
    assert (await told(house)).heard == ["12", "letters/dot", "5", "digits/dollars"]


@pytest.mark.parametrize(
    ("posted", "held", "heard"),
    [
        (12, 0, "vm-and 12 vm-messages"),
        (12, 2, "vm-and 10 vm-messages"),
        (0, 0, "vm-and 0 vm-messages"),
        (-3, 0, "vm-and digits/minus 3 vm-messages"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_sms_credit_of_its_own_is_said(house, posted, held, heard):
    have(house, posted, held, kind="sms")
    channel = await told(house)
    assert channel.heard == ["vm-youhave", "1", "minute"]
    assert channel.variables["CELCOMBILLER_SMS_BALANCE"] == str(posted - held)
    house.scripts.balance._config = Config(sms=Sms(account="sms"))
    channel = await told(house)
    assert " ".join(channel.heard) == f"vm-youhave 1 minute {heard}"
    assert channel.variables["CELCOMBILLER_BALANCE"] == "60"
    house.scripts.balance._config = Config(sms=Sms(account="sms"), balance=Balance(sms_unit=""))
    assert (await told(house)).heard == channel.heard[:-1]


@pytest_twisted.ensureDeferred
async def test_a_quiet_balance_is_set_but_not_said(house):
    channel = await told(house, quiet=True)
    assert (channel.variables["CELCOMBILLER_BALANCE"], channel.heard) == ("60", [])
    assert not any(line == "ANSWER" for _, line in channel.transcript)


@pytest_twisted.ensureDeferred
async def test_asking_costs_nothing_and_leaves_no_call(house):
    await told(house)
    with house.engine.connect() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(tables.call)).scalar_one() == 0
    assert (voice(house.engine).posted, voice(house.engine).held) == (60, 0)
    proved(house.engine)


@pytest_twisted.ensureDeferred
async def test_a_missing_sound_is_skipped_with_one_line(house):
    have(house, 125)
    channel = await told(house, lacks=("vm-youhave", "minutes"))
    assert channel.heard == ["2", "5", "seconds"]
    assert house.said == [
        "A balance was told without STREAM FILE vm-youhave, STREAM FILE minutes: no such sounds in 'en'"
    ]


@pytest_twisted.ensureDeferred
async def test_an_unsayable_number_is_said_by_digits(house):
    have(house, 125)
    channel = await told(house, lacks=("SAY NUMBER",))
    assert channel.heard == ["vm-youhave", "2", "minutes", "5", "seconds"]
    assert ("biller", 'SAY DIGITS 2 ""') in channel.transcript
    assert house.said == []


@pytest_twisted.ensureDeferred
async def test_without_sounds_the_script_still_ends(house):
    channel = await told(house, lacks=("STREAM FILE", "SAY NUMBER", "SAY DIGITS"))
    assert channel.heard == []
    assert len(house.said) == 1


@pytest.mark.parametrize("at", ["vm-youhave", "2", "minutes"])
@pytest_twisted.ensureDeferred
async def test_a_hangup_while_speaking_is_no_fault(house, at):
    have(house, 125)
    channel = await told(house, hangs_up_at=at)
    assert channel.heard[-1] == at
    assert house.said == []


@pytest_twisted.ensureDeferred
async def test_a_hangup_before_the_answer_says_nothing(house):
    class Gone(Listening):
        def answer(self, line):
            return "200 result=-1" if line == "ANSWER" else super().answer(line)

    channel = await told(house, Gone())
    assert channel.heard == []
    assert house.said == []


@pytest.mark.parametrize(
    "caller",
    [
        "",
        "unknown",
        "1009",
        "' or 1=1 --",
        "1001 x",
        "x" * 2000,
        "\ufffd",
        "IMSI",
        "+",
        "%",
        "\uff11\uff10\uff10\uff11",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_stranger_is_refused_and_told_nobodys_balance(house, caller):
    channel = await told(house, caller=caller)
    assert channel.variables["CELCOMBILLER_RESULT"] == "UNKNOWN"
    assert "CELCOMBILLER_BALANCE" not in channel.variables
    assert channel.heard == []


@pytest_twisted.ensureDeferred
async def test_the_account_code_counts_before_the_number(house):
    ask(house.engine, credit(7, "other", username="u1002"))
    assert (await told(house, account_code="u1002")).heard == ["vm-youhave", "7", "seconds"]
    assert (await told(house, caller="IMSI724000000001002")).heard == ["vm-youhave", "7", "seconds"]


@pytest_twisted.ensureDeferred
async def test_a_database_outage_plays_its_prompt(house):
    async def away(_statement):
        raise StoreUnavailable("the database does not answer")

    house.scripts.balance._reader.fetch = away
    house.scripts.balance._config = Config(prompts=Prompts(failed="sorry"))
    channel = await told(house)
    assert channel.variables["CELCOMBILLER_RESULT"] == "FAILED"
    assert channel.heard == ["sorry"]
    assert house.said == ["Nobody can be told his balance: the database does not answer"]


@pytest_twisted.ensureDeferred
async def test_a_hung_database_does_not_hold_the_caller(house):
    late = Deferred()

    async def silent(_statement):
        return await late

    house.scripts.balance._reader.fetch = silent
    channel = await told(house)
    assert channel.variables["CELCOMBILLER_RESULT"] == "FAILED"
    late.errback(StoreUnavailable("at last"))
