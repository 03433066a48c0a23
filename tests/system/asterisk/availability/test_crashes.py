"""What dies, dies in the middle of a call; the call is charged all the same, once, and the books are proved."""

import contextlib
import socket
import threading

from tests.system.lab.biller import Biller
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import free_ports, until

CREDIT = 60


def _begin(biller, *numbers):
    return biller.prepare({number: CREDIT if number < 2000 else 0 for number in numbers}).start()


def _call(pbx, tmp_path, does="hangs_up", answers="waits", *, number=1000, talk=3.0):
    other = callee(tmp_path / "callee", answers, port=pbx.port_of("2001"), talk=talk)
    phone = caller(tmp_path / "caller", does, number=str(number), dials="2001", sip_port=pbx.sip_port, talk=talk)
    phone.until_answered()
    return phone, other


def _end(*phones):
    for phone in phones:
        phone.finish()


def test_a_biller_killed_mid_call_settles_at_hangup(biller_on_each, pbx, tmp_path):
    biller = _begin(biller_on_each, 1000, 2001)
    phones = _call(pbx, tmp_path, talk=6)
    until(lambda: biller.calls_of(1000)[0]["answered_at"], "AMI told of the answer")
    biller.kill9()
    biller.start()
    assert biller.calls_of(1000)[0]["state"] == "open"
    _end(*phones)
    call = biller.closed_call(1000)
    assert call["witness"] in ("reducer", "ami")
    assert call["cost"] == 7, call
    biller.check_books(1000, credit=CREDIT, cost=7)


def test_a_missed_hangup_is_charged_from_asterisks_note(biller, pbx, tmp_path):
    _begin(biller, 1000, 2001)
    phones = _call(pbx, tmp_path, talk=2.3)
    biller.kill9()
    _end(*phones)
    until(lambda: pbx.channels() == 0, "the channels are gone")
    assert pbx.notes()
    biller.start()
    call = biller.closed_call(1000)
    assert (call["witness"], call["cost"]) == ("sweep", 3), call
    biller.check_books(1000, credit=CREDIT, cost=3)


def test_without_note_known_life_is_charged(biller, pbx, tmp_path):
    _begin(biller, 1200, 2001)
    phones = _call(pbx, tmp_path, number=1200, talk=3)
    until(lambda: biller.calls_of(1200)[0]["answered_at"], "AMI told of the answer")
    biller.kill9()
    _end(*phones)
    until(lambda: pbx.channels() == 0, "the channels are gone")
    biller.start()
    call = biller.closed_call(1200)
    assert call["witness"] == "sweep"
    assert 1 <= call["cost"] <= 4, call
    assert "nobody told of its end" in call["note"]
    biller.check_books(1200, credit=CREDIT, cost=call["cost"])


def test_an_ami_cut_in_mid_call_changes_nothing(biller, pbx, tmp_path):
    relay = Relay(pbx.ami_port)
    biller.ami_port = relay.port
    _begin(biller, 1000, 2001)
    phones = _call(pbx, tmp_path, talk=2.3)
    relay.cut()
    until(lambda: "AMI of pbx1 is lost" in biller.log, "the biller notices")
    _end(*phones)
    call = biller.closed_call(1000)
    assert (call["witness"], call["cost"]) == ("agi", 3), call
    until(lambda: biller.log.count("AMI of pbx1 is connected") == 2, "the link is back")
    biller.check_books(1000, credit=CREDIT, cost=3)
    relay.close()


def test_an_asterisk_killed_in_mid_call_charges_talk(biller, pbx, tmp_path):
    _begin(biller, 1000, 2001)
    phones = _call(pbx, tmp_path, talk=3)
    until(lambda: biller.calls_of(1000)[0]["answered_at"], "AMI told of the answer")
    pbx.kill9()
    for phone in phones:
        phone.stop()
    pbx.start()
    call = biller.closed_call(1000)
    assert call["witness"] == "sweep"
    assert 1 <= call["cost"] <= 3, call
    biller.check_books(1000, credit=CREDIT, cost=call["cost"])


def test_a_wrong_ami_secret_is_one_line(biller, pbx, tmp_path):
    biller.secret = "wrong"
    _begin(biller, 1000, 2001)
    until(lambda: "Authentication failed" in biller.log, "the refusal is told")
    phones = _call(pbx, tmp_path, talk=1.3)
    _end(*phones)
    assert biller.closed_call(1000)["cost"] == 2
    assert biller.log.count("Authentication failed") == 1
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_a_second_biller_on_one_file_is_refused(tmp_path):
    biller = Biller(tmp_path / "biller").init().start()
    try:
        second = Biller(biller.folder)
        second.as_program = True
        second.write()
        with contextlib.suppress(AssertionError):  # the start waits in vain for it to listen
            second.start()
        assert "another biller runs on this SQLite file" in biller.log
        assert "Traceback" not in biller.log
    finally:
        biller.stop()
        second.stop()


def test_junk_on_the_agi_port_ends_its_session(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.agi["idle_seconds"] = 1
    biller.init().start()
    header = b"agi_network: yes\n"
    try:
        for junk in (b"\x00\xff\n" * 10, header * 2, b"agi_x: y\n" * 5000, b"a" * 200_000, b"", header):
            with socket.create_connection(("127.0.0.1", biller.agi_port), timeout=10) as peer:
                try:
                    peer.sendall(junk)
                    assert peer.recv(100) == b""
                except (ConnectionResetError, BrokenPipeError):
                    pass
        assert "Traceback" not in biller.log
        biller.subscriber(1000, CREDIT)
        biller.subscriber(2001)
        assert "settled" in biller.run("call", "user1000", "2001", "--talk", "3")
    finally:
        biller.stop()


class Relay:
    """Stands between the biller and AMI, and can be cut."""

    def __init__(self, target: int) -> None:
        self.port = free_ports(1)
        self._target = target
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def cut(self) -> None:
        while self._open:
            each = self._open.pop()
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self._server.close()
        self.cut()
