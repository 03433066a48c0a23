"""Log lines about clients: one in a while for each client and fault."""

from pyrad import packet as pyrad
from twisted.internet.task import Clock

from celcombiller.radius.throttled_log import CLIENTS_MAX, LINES_MAX, THROTTLE_SECONDS, ThrottledLog
from celcombiller.radius.udp_server import RadiusPort
from celcombiller.runtime.metrics import Metrics


def test_warnings_about_one_client_are_throttled(lines):
    clock = Clock()
    port = RadiusPort(clock, pyrad.AccessRequest, (), None, Metrics(), ThrottledLog(clock.seconds))
    for _ in range(50):
        port.datagramReceived(b"x", ("192.0.2.1", 1))
    clock.advance(THROTTLE_SECONDS)
    for number in range(3000):
        port.datagramReceived(b"x", (f"10.0.{number % 250}.{number // 250}", 1))
    assert len(lines) == 1 + LINES_MAX
    clock.advance(THROTTLE_SECONDS)
    port.datagramReceived(b"x", ("192.0.2.1", 1))
    mine = [line for line in lines if "192.0.2.1" in line]
    why = "no [[radius.clients]] table has this address"
    assert mine[0] == f"RADIUS of 192.0.2.1: ignored: {why}"
    assert len(mine) == 2
    assert len(port._warnings._throttled) <= CLIENTS_MAX
