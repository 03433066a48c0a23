"""Text messages over a real Asterisk: phones that write to each other, and the API's own; after each the books are proved."""

import json
import socket
import subprocess

import pytest

from celcombiller.asterisk.ami.message_sender import pieces
from tests.system.lab.sip_phones import Phone
from tests.system.lab.waiting import free_ports, until

pytestmark = pytest.mark.sip_messages

CREDIT = 60
WAYS = {"on_net_route": "asterisk", "on_net_price": 3, "off_net_price": 7, "retry_seconds_max": 1}
STRANGER = "127.0.0.66"  # known to Asterisk by its address, so that From may say anything


def begin(biller, **sms):
    biller.sms = WAYS | sms
    return biller.prepare({1000: CREDIT, 2001: 0}).start()


def writer(folder, text, *, number="1000", to="2001", pbx, address="127.0.0.1", answer="accepted"):
    port = free_ports(1, socket.SOCK_DGRAM)
    words = ["-i", address, "-p", str(port), "-s", to, "-key", "caller", number, f"127.0.0.1:{pbx.sip_port}"]
    return Phone(folder, f"texter_{answer}", words, talk=1, text=text)


def reader(folder, port):
    return Phone(folder, "texted_reads", ["-i", "127.0.0.1", "-p", str(port)], talk=1).until_at(port)


class Api:
    """The API with a token of the administrator."""

    def __init__(self, biller):
        self.biller = biller
        self.secret = biller.run("token", "add", "test", "--user", "admin", "--scope", "admin").split()[-1]

    def ask(self, method, path, body=None, key=None):
        words = ["curl", "-sS", "-X", method, "-H", f"Authorization: Bearer {self.secret}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        if key is not None:
            words += ["-H", f"Idempotency-Key: {key}"]
        url = f"http://127.0.0.1:{self.biller.rest_port}{path}"
        done = subprocess.run([*words, url], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def messages(self):
        return self.ask("GET", "/api/v1/messages")["items"]

    def the_message(self, *states):
        def there():
            found = self.messages()
            return found[0] if found and found[0]["state"] in states else None

        return until(there, f"the message is {states}\n{self.biller.log[-3000:]}", every=0.1)


def check_books(biller, *, cost):
    user = biller.json("user", "show", "user1000")
    assert (user["voice_balance"], user["voice_held"]) == (CREDIT - cost, 0)
    report = biller.json("audit")
    assert report["ok"], report["differences"]
    assert "Unhandled Error" not in biller.log
    assert "Traceback" not in biller.log


def body_of(phone):
    return phone.messages.partition("\nMESSAGE ")[2].replace("\r\n", "\n").partition("\n\n")[2].partition("\n-----")[0]


@pytest.mark.parametrize(
    ("text", "count"),
    [("hello", 1), ('a|b ")(}{ ${UNIQUEID} %0A', 1), ("two\nlines, olá ç", 1), ("x" * 161, 2), ("ç" * 71, 2)],
)
def test_a_phones_message_arrives_charged_by_part(biller_on_each, pbx, tmp_path, text, count):
    biller = begin(biller_on_each)
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    writer(tmp_path / "writer", text, pbx=pbx).finish()
    other.finish()
    assert body_of(other) == text
    assert "From: <sip:1000@" in other.messages.partition("\nMESSAGE ")[2]
    message = Api(biller).the_message("accepted")
    assert (message["parts"], message["cost"], message["username"]) == (count, 3 * count, "user1000")
    check_books(biller, cost=3 * count)


def test_two_equal_messages_are_charged_twice(biller, pbx, tmp_path):
    begin(biller)
    for n in range(2):
        other = reader(tmp_path / f"reader{n}", pbx.port_of("2001"))
        writer(tmp_path / f"writer{n}", "again", pbx=pbx).finish()
        other.finish()
    until(lambda: [each["state"] for each in Api(biller).messages()] == ["accepted"] * 2, "both are accepted")
    check_books(biller, cost=6)


def test_a_message_that_asterisk_cannot_send_costs_nothing(biller, pbx, tmp_path):
    begin(biller, on_net_to="pjsip:nobody{clid}")
    writer(tmp_path / "writer", "hello", pbx=pbx).finish()
    message = Api(biller).the_message("refused")
    assert message["note"] == "MessageSend: FAILURE"
    check_books(biller, cost=0)


@pytest.mark.parametrize(
    ("number", "to", "text", "code"),
    [
        ("1001", "2001", "hello", "UNKNOWN"),
        ("1000", "2001", "x" * 1000, "INVALID"),
        ("1000", "3001", "hello", "BAD_NUMBER"),
        ("1000", "2001", "x" * 800, "NO_CREDIT"),
    ],
)
def test_a_message_that_may_not_go_goes_nowhere(biller, pbx, tmp_path, number, to, text, code):
    begin(biller, parts_max=6, on_net_price=11)
    writer(tmp_path / "writer", text, number=number, to=to, pbx=pbx).finish()
    until(lambda: f"Refused a message: {code}" in biller.log, "it is refused")
    assert Api(biller).messages() == []
    check_books(biller, cost=0)


@pytest.mark.parametrize(
    "name",
    [
        "1999%0Aagi_arg_1%3A%20payer%3Duser1000",
        "1999%0A%0A200%20result%3D1%20(1000)",
        "x%22%20%3Csip%3A1000%40h%3E%20%3Csip%3Ay",
        "1000%3E",
    ],
)
def test_a_forged_sender_writes_on_nobodys_credit(biller, pbx, tmp_path, name):
    begin(biller)
    writer(tmp_path / "evil", "hello", number=name, pbx=pbx, address=STRANGER).finish()
    until(lambda: "Refused a message: UNKNOWN" in biller.log, "it is refused")
    assert Api(biller).messages() == []
    check_books(biller, cost=0)


@pytest.mark.parametrize("to", ["2001%0Aagi_arg_1%3A%20evil", "2001%2C77", "2001%26pjsip", "2001%22%20%7C%20%221"])
def test_a_forged_number_gets_no_message(biller, pbx, tmp_path, to):
    begin(biller)
    writer(tmp_path / "evil", "hello", to=to, pbx=pbx, answer="ended").finish()
    assert Api(biller).messages() == []
    check_books(biller, cost=0)


def test_the_apis_message_is_charged_when_sent(biller, pbx, tmp_path):
    begin(biller, on_net_to="pjsip:{clid}")
    api = Api(biller)
    pbx.stop()
    text = 'olà "mundo"\n' + "x" * 1000
    order = {"to": "2001", "text": text, "username": "user1000"}
    made = [api.ask("POST", "/api/v1/messages", order, key="k") for _ in range(2)]
    assert made[0] == made[1]
    assert (made[0]["state"], made[0]["encoding"], made[0]["parts"], made[0]["cost"]) == ("queued", "gsm7", 7, 21)
    assert api.ask("POST", "/api/v1/messages", order | {"text": "other"}, key="k")["code"] == "CONFLICT"
    assert biller.json("user", "show", "user1000")["voice_held"] == 21
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    pbx.start()
    assert api.the_message("accepted")["cost"] == 21
    other.finish()
    assert body_of(other) in {each.decode() for each in pieces(text)}
    check_books(biller, cost=21)


def test_a_notice_is_free_from_the_operator(biller, pbx, tmp_path):
    begin(biller, sender="4242")
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    api = Api(biller)
    api.ask("POST", "/api/v1/messages", {"to": "2001", "text": "hello"}, key="k")
    other.finish()
    assert "From: <sip:4242@" in other.messages
    message = api.the_message("accepted")
    assert (message["username"], message["cost"], message["origin"]) == (None, 0, "api")
    check_books(biller, cost=0)


def test_an_uncertain_message_is_charged_once_after_kill(biller, pbx, tmp_path):
    begin(biller)
    api = Api(biller)
    pbx.stop()
    until(lambda: "AMI of pbx1 is lost" in biller.log, "the biller knows that Asterisk is gone")
    api.ask("POST", "/api/v1/messages", {"to": "2001", "text": "hello", "username": "user1000"}, key="k")
    biller.kill9()
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    pbx.start()
    biller.start()
    other.finish()
    api.the_message("accepted")
    check_books(biller, cost=3)
