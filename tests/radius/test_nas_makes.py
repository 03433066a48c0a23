"""What NASes of each make report, and what it costs: ids that are used again, missing attributes, names in many forms."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from celcombiller.config.tables import RadiusClient
from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.core.subscribers import subscriber_records
from celcombiller.radius.codec import report_of
from tests.core.data.test_data_sessions import ask, give, pot, rows
from tests.core.ledger.test_book import NOW, proved
from tests.support.fakes.nas import SECRET, report

CLIENT = RadiusClient(name="hotspot", address="10.0.0.10", secret=SECRET)
CONDITIONS = Conditions(quota_octets=100)
CREDIT = 10**12
GIB = 2**30
IMSI = "724000000001001"


@dataclass(frozen=True)
class Make:
    """A make of NAS: ``reports`` are arrival in seconds, status, Acct-Session-Id, octets, and other attributes.

    ``dated`` says that it sends Event-Timestamp, ``skew`` by how many seconds its clock is wrong.
    """

    name: str
    octets: int
    sessions: int
    reports: tuple
    dated: bool = False
    skew: int = 0
    delays: bool = True
    gigawords: bool = True
    username: str | None = "u1001"
    attributes: tuple = ()

    def packets(self):
        """Return the packets with their arrival."""
        for arrival, status, session_id, octets, more in self.reports:
            attributes = dict(self.attributes) | more
            made = arrival - attributes.get("Acct_Delay_Time", 0)
            if self.dated:
                attributes.setdefault("Event_Timestamp", int(NOW.timestamp()) + made + self.skew)
            if self.delays:
                attributes.setdefault("Acct_Delay_Time", 0)
            packet = report(status, session_id, username=self.username, octets=octets, **attributes)
            if not self.gigawords:
                packet.pop(52, None)
            yield arrival, packet


def aged(seconds, **more):
    return {"Acct_Session_Time": seconds} | more


MAKES = (
    Make(
        "MikroTik: without a battery, so its clock starts in 1970 and its ids start again",
        octets=900,
        sessions=2,
        dated=True,
        attributes=(("Calling_Station_Id", "02:00:00:00:00:01"),),
        reports=(
            (0, "Start", "81000001", None, {}),
            (300, "Interim-Update", "81000001", 500, aged(300)),
            # No Stop and no Accounting-On: it lost its power.
            (700, "Start", "81000001", None, {"Event_Timestamp": 60}),
            (1000, "Interim-Update", "81000001", 200, aged(300)),
            (1300, "Stop", "81000001", 400, aged(600)),
        ),
    ),
    Make(
        "CoovaChilli: repeats what was not acknowledged, with the date of the event",
        octets=GIB * 5 + 7,
        sessions=1,
        dated=True,
        attributes=(("Called_Station_Id", "02-00-00-00-00-02"),),
        reports=(
            (0, "Start", "5a00000000000001", None, {}),
            (10, "Start", "5a00000000000001", None, {"Acct_Delay_Time": 10}),
            (300, "Interim-Update", "5a00000000000001", GIB * 3, aged(300)),
            (600, "Interim-Update", "5a00000000000001", GIB * 5, aged(600)),
            (610, "Interim-Update", "5a00000000000001", GIB * 3, aged(300, Acct_Delay_Time=310)),
            (900, "Stop", "5a00000000000001", GIB * 5 + 7, aged(900)),
            (960, "Stop", "5a00000000000001", GIB * 5 + 7, aged(900, Acct_Delay_Time=60)),
        ),
    ),
    Make(
        "Cisco: no Gigawords unless it is told to, no dates, and MAC addresses with dots",
        octets=GIB * 5,
        sessions=1,
        gigawords=False,
        username="0200.0000.0001",
        reports=(
            (0, "Start", "0000001A", None, {}),
            (300, "Interim-Update", "0000001A", GIB * 3, aged(300)),
            (600, "Interim-Update", "0000001A", GIB * 4 + GIB // 2, aged(600)),
            (605, "Interim-Update", "0000001A", GIB * 3, aged(300, Acct_Delay_Time=305)),
            (900, "Stop", "0000001A", GIB * 5, aged(900)),
        ),
    ),
    Make(
        "Cisco on a fast line: no Gigawords, and more than 2 GiB between two reports, with packets",
        octets=GIB * 9,
        sessions=1,
        gigawords=False,
        reports=(
            (0, "Start", "0000001B", None, {}),
            (300, "Interim-Update", "0000001B", GIB * 3, aged(300, Acct_Input_Packets=GIB * 3 // 1400)),
            (600, "Interim-Update", "0000001B", GIB * 6, aged(600, Acct_Input_Packets=GIB * 6 // 1400)),
            (900, "Stop", "0000001B", GIB * 9, aged(900, Acct_Input_Packets=GIB * 9 // 1400)),
        ),
    ),
    Make(
        "accel-ppp: names the user with the realm at first and without it later",
        octets=3000,
        sessions=1,
        reports=(
            (0, "Start", "6f2a01", None, {"User_Name": "u1001@isp.example"}),
            (60, "Interim-Update", "6f2a01", 1000, aged(60, User_Name="u1001@isp.example")),
            (120, "Interim-Update", "6f2a01", 2000, aged(120)),
            (180, "Stop", "6f2a01", 3000, aged(180)),
        ),
    ),
    Make(
        "pfSense: a Stop and a Start each minute, with one id and counters from zero",
        octets=700 + 300 + 900,
        sessions=3,
        delays=False,
        reports=(
            (0, "Start", "d41d8cd9", None, {}),
            (60, "Stop", "d41d8cd9", 700, aged(60)),
            (60, "Start", "d41d8cd9", None, {}),
            (120, "Stop", "d41d8cd9", 300, aged(60)),
            (120, "Start", "d41d8cd9", None, {}),
            (180, "Stop", "d41d8cd9", 900, aged(60)),
        ),
    ),
    Make(
        "OPNsense: a counter that falls in mid-session",
        octets=800,
        sessions=1,
        reports=(
            (0, "Start", "c0ffee", None, {}),
            (60, "Interim-Update", "c0ffee", 700, aged(60)),
            (120, "Interim-Update", "c0ffee", 690, aged(120)),
            (180, "Stop", "c0ffee", 800, aged(180)),
        ),
    ),
    Make(
        "a GGSN: no User-Name, the subscriber by MSISDN and IMSI, and a clock two hours wrong",
        octets=600,
        sessions=1,
        dated=True,
        skew=-7200,
        username="",
        attributes=(("3GPP_IMSI", IMSI), ("Calling_Station_Id", "+1001")),
        reports=(
            (0, "Start", "0A0000050000BEEF", None, {}),
            (300, "Interim-Update", "0A0000050000BEEF", 400, aged(300)),
            (310, "Start", "0A0000050000BEEF", None, {"Acct_Delay_Time": 310}),
            (600, "Stop", "0A0000050000BEEF", 600, aged(600)),
            (610, "Interim-Update", "0A0000050000BEEF", 400, aged(300, Acct_Delay_Time=310)),
        ),
    ),
    Make(
        "a GGSN that names all users alike",
        octets=50,
        sessions=1,
        username="internet",
        attributes=(("Calling_Station_Id", "1001"),),
        reports=((0, "Start", "A", None, {}), (60, "Stop", "A", 50, aged(60))),
    ),
    Make(
        "one that sends the Stop before the Start",
        octets=70,
        sessions=1,
        reports=((0, "Stop", "A", 70, aged(60)), (1, "Start", "A", None, {}), (5, "Stop", "A", 70, aged(60))),
    ),
    Make(
        "one whose Start and Stop are lost",
        octets=70,
        sessions=1,
        reports=((60, "Interim-Update", "A", 40, aged(60)), (120, "Interim-Update", "A", 70, aged(120))),
    ),
)


@pytest.mark.parametrize("make", MAKES, ids=[make.name.partition(":")[0] for make in MAKES])
def test_each_octet_is_charged_once_for_each_make(engine, make):
    give(engine, CREDIT)
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1002", {"username": "02-00-00-00-00-01"}, NOW)
    payer = "02-00-00-00-00-01" if make.username == "0200.0000.0001" else "u1001"
    give(engine, CREDIT, payer, "more")
    before = pot(engine, payer)[0]
    for arrival, packet in make.packets():
        now = NOW + timedelta(seconds=arrival)
        usage = report_of(packet, CLIENT, "10.0.0.10", CONDITIONS, now)
        ask(engine, usage, now=now)
    assert (before - pot(engine, payer)[0], len(rows(engine))) == (make.octets, make.sessions)
    proved(engine)


@pytest.mark.parametrize("said", ["020000000001", "02:00:00:00:00:01", "02-00-00-00-00-01", "0200.0000.0001"])
def test_a_mac_address_is_known_in_any_form(engine, said):
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1001", {"username": "02:00:00:00:00:01"}, NOW)
    give(engine, 100, "02:00:00:00:00:01")
    packet = report("Stop", username="", octets=7, Calling_Station_Id=said)
    ask(engine, report_of(packet, CLIENT, "10.0.0.10", CONDITIONS, NOW))
    expected = 100 if said == "020000000001" else 93  # twelve digits alone may be a number
    assert pot(engine, "02:00:00:00:00:01")[0] == expected


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("", {"3GPP_IMSI": IMSI}),
        ("", {"Calling_Station_Id": "001001"}),
        (f"0{IMSI}@wlan.mnc000.mcc724.3gppnetwork.org", {}),
        ("ISP\\u1001", {}),
    ],
)
def test_a_subscriber_is_known_by_network_identities(engine, name, attributes):
    give(engine, 100)
    ask(engine, report_of(report("Stop", username=name, octets=7, **attributes), CLIENT, "10.0.0.10", CONDITIONS, NOW))
    assert pot(engine)[0] == 93


@pytest.mark.parametrize("number", [41, 42, 43, 46, 49, 52, 53, 55, 8, 31, 4, 95])
@pytest.mark.parametrize("value", [b"", b"\0", b"\xff" * 3, b"\xff" * 8, b"\xff" * 253])
def test_the_rest_counts_where_an_attribute_is_odd(number, value):
    packet = report("Stop", octets=7)
    packet[number] = [value]
    usage = report_of(packet, CLIENT, "10.0.0.10", CONDITIONS, NOW)
    assert (usage.username, usage.session_id, usage.status_type) == ("ana", "A1", "stop")
    assert usage.octets == (0 if number == 42 else 7)


def test_octets_that_cannot_be_are_not_counted():
    packet = report("Stop", octets=7, Acct_Output_Gigawords=2**32 - 1)
    assert report_of(packet, CLIENT, "10.0.0.10", CONDITIONS, NOW).octets == 7
