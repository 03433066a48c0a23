"""Two billers with one ledger and one Asterisk: what the one begins the other may end, and neither disturbs the other."""

import pytest
import sqlalchemy as sa

from celcombiller.core.schema import tables
from tests.system.lab.biller import Biller
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import free_ports, until
from tests.system.postgresql.availability.test_several_nodes import rows

CREDIT = 60


@pytest.fixture
def asterisk_of_two(pbx):
    pbx.ask(free_ports(1), free_ports(1))
    return pbx


@pytest.fixture
def pair(cluster, asterisk_of_two, tmp_path):
    pbx, url = asterisk_of_two, cluster.database()
    made = [
        Biller(tmp_path / f"biller{port}", agi_port=port, pbx=pbx, url=url) for port in (pbx.agi_port, pbx.second_port)
    ]
    made[0].prepare({1000: CREDIT, 1300: CREDIT, 2001: 0})
    for each in made:
        each.write()
        each.start()
    yield made
    for each in made:
        each.stop()


def test_two_billers_charge_once_and_confirm(pair, asterisk_of_two, tmp_path):
    first, second = pair
    call = Conversation(asterisk_of_two, tmp_path, talk=7.3)  # longer than a sweep takes: both know the call
    call.finish()
    settled = first.closed_call(1000)
    assert (settled["witness"], settled["cost"]) == ("agi", 8), settled
    until(lambda: len(witnesses(first.url)) == 3, "all three reported the end")  # each is recorded a moment later
    assert witnesses(first.url) == {"agi", "reducer", "ami"}
    assert not rows(first.url, sa.select(tables.testimony).where(tables.testimony.c.discrepancy))
    first.check_books(1000, credit=CREDIT, cost=8)
    second.check_books(1000, credit=CREDIT, cost=8)


def test_a_dead_billers_call_is_charged_elsewhere(pair, asterisk_of_two, tmp_path):
    first, second = pair
    call = Conversation(asterisk_of_two, tmp_path, talk=4.3)
    first.kill9()
    call.finish()
    settled = second.closed_call(1000)
    assert (settled["witness"], settled["cost"]) == ("reducer", 5), settled
    second.check_books(1000, credit=CREDIT, cost=5)
    call = Conversation(
        asterisk_of_two, tmp_path / "again", talk=1.3
    )  # and the next one is the other's from the beginning
    call.finish()
    until(lambda: [row["witness"] for row in second.calls_of(1000)] == ["agi", "reducer"], "the second call is charged")


def test_without_reducer_the_other_hears_by_ami(pair, asterisk_of_two, tmp_path):
    first, second = pair
    call = Conversation(asterisk_of_two, tmp_path, number=1300, talk=7.3)
    until(lambda: first.calls_of(1300)[0]["answered_at"], "AMI told of the answer")
    first.kill9()
    call.finish()
    settled = second.closed_call(1300)
    assert (settled["witness"], settled["cost"]) == ("ami", 8), settled
    second.check_books(1300, credit=CREDIT, cost=8)


def test_an_unseen_short_call_is_charged_as_known(pair, asterisk_of_two, tmp_path):
    first, second = pair
    call = Conversation(asterisk_of_two, tmp_path, number=1300, talk=2.3)
    until(lambda: first.calls_of(1300)[0]["answered_at"], "AMI told of the answer")
    first.kill9()
    call.finish()
    settled = second.closed_call(1300)
    assert 1 <= settled["cost"] <= 3, settled
    second.check_books(1300, credit=CREDIT, cost=settled["cost"])


def witnesses(url):
    return {row.witness for row in rows(url, sa.select(tables.testimony.c.witness))}


class Conversation:
    """A call that is up; `finish` waits for its end."""

    def __init__(self, pbx, folder, *, talk, number=1000):
        self.other = callee(folder / "callee", "waits", port=pbx.port_of("2001"), talk=talk)
        self.phone = caller(
            folder / "caller", "hangs_up", number=str(number), dials="2001", sip_port=pbx.sip_port, talk=talk
        )
        self.phone.until_answered()

    def finish(self):
        self.phone.finish()
        self.other.finish()
