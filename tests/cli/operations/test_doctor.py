"""`doctor` tries what the settings name, and gives a remedy with each fault."""

import json
import socket
import subprocess
import sys
import threading
from functools import partial

import pytest
import pytest_twisted
from smpplib import consts
from twisted.internet.threads import deferToThread

from tests.support.fakes.smsc import MessageCentre
from tests.system.lab.waiting import free_ports


def quiet():
    """Return settings of which all is right."""
    port = free_ports(2)
    listens = [f'listen = "tcp:{each}:interface=127.0.0.1"' for each in (port, port + 1)]
    return "\n".join(["[calls]", "always_allowed = []", "[rest]", listens[0], "[agi]", listens[1], ""])


@pytest.fixture
def examined(ready, here):
    """Write settings, and give the status and the findings that need a remedy, by subject."""

    def examine(text="", words=("doctor",)):
        (here / "celcombiller.toml").write_text(quiet() + text)
        (here / "celcombiller.toml").chmod(0o640)
        status, out, err = ready(*words, "--json")
        assert err == ""
        return status, {each["subject"]: each for each in json.loads(out) if each["remedy"]}

    return examine


@pytest.mark.parametrize("words", [("doctor",), ("check-config", "--try")])
def test_what_is_right_is_status_0(examined, words):
    assert examined(words=words) == (0, {})


def test_an_emergency_number_without_a_way_is_found(examined, here, ready):
    (here / "celcombiller.toml").write_text('[calls]\nalways_allowed = ["112", "2001"]\n')
    status, out, _ = ready("doctor")
    assert (status, "there is no way to 112\n" in out, "always_allowed_dial" in out) == (1, True, True)


def test_a_database_that_is_away_is_found(examined, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", "postgresql+psycopg://x:s3cret@127.0.0.1:1/x")
    status, found = examined()
    assert (status, list(found)) == (1, ["database"])
    assert "s3cret" not in str(found)


@pytest.mark.slow
def test_a_port_of_another_program_is_found(examined):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, found = examined(
            f'\n[metrics]\n[radius]\ninterface = "192.0.2.1"\n{CLIENT}[smpp]\nhost = "127.0.0.1"\nport = 1\n'
        )
        assert status == 1
        assert {"radius.access_port", "radius.accounting_port", "radius client n", "smpp"} == set(found)
        assert "192.0.2.1" in found["radius.access_port"]["remedy"]
        status, found = examined_listen(examined, port)
    assert (status, list(found)) == (1, ["rest.listen"])
    assert f":{port}" in found["rest.listen"]["remedy"]


CLIENT = '[[radius.clients]]\nname = "n"\naddress = "192.0.2.9"\nsecret = "short"\n'


def examined_listen(examined, port):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELCOMBILLER_REST_LISTEN", f"tcp:{port}:interface=127.0.0.1")
        return examined()


def test_files_that_all_can_read_are_found(ready, here):
    (here / "celcombiller.toml").write_text(quiet() + '[smpp]\npassword_file = "smpp.secret"\n')
    (here / "celcombiller.toml").chmod(0o644)
    (here / "smpp.secret").write_text("secret")
    (here / "smpp.secret").chmod(0o644)
    (here / "celcombiller.sqlite").chmod(0o644)
    status, out, _ = ready("doctor")
    assert (status, f"chmod o= {here}/smpp.secret" in out, f"chmod 600 {here}/celcombiller.sqlite" in out) == (
        1,
        True,
        True,
    )
    assert "celcombiller.toml can be read" not in out, "it holds no secret"
    assert f"{here}/smpp.secret holds a secret" in ready("check-config")[2]


def test_settings_with_a_readable_secret_warn(ready, here):
    (here / "celcombiller.toml").write_text('[smpp]\npassword = "hush"\n')
    (here / "celcombiller.toml").chmod(0o644)
    status, _, err = ready("check-config")
    assert (status, f"{here}/celcombiller.toml holds a secret" in err) == (0, True)
    (here / "celcombiller.toml").chmod(0o640)
    assert ready("check-config")[2] == ""


@pytest.mark.slow
def test_peers_that_are_away_are_found(ready, here):
    """In a process of its own, for the reactor runs once: 1 s."""
    port = free_ports(3)
    peers = f"""
[[asterisk]]
name = "pbx1"
host = "127.0.0.1"
port = {port}
username = "celcombiller"
secret = "hush"
[[provisioning]]
name = "village"
kind = "osmocom"
port = {port + 1}
vty_port = {port + 2}
"""
    (here / "celcombiller.toml").write_text(quiet() + peers)
    (here / "celcombiller.toml").chmod(0o600)
    program = "import sys; from celcombiller.cli import main; sys.exit(main(['doctor', '--json']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    found = {each["subject"]: each for each in json.loads(done.stdout) if each["remedy"]}
    assert (done.returncode, set(found), done.stderr) == (1, {"asterisk pbx1", "network village"}, "")
    assert "manager.conf" in found["asterisk pbx1"]["remedy"]


@pytest.mark.slow
def test_a_login_that_is_refused_is_found(ready, here):
    """In a process of its own, for the reactor runs once: 1 s."""
    with socket.create_server(("127.0.0.1", 0)) as manager:
        server = (
            f'[[asterisk]]\nname = "pbx1"\nhost = "127.0.0.1"\nport = {manager.getsockname()[1]}\n'
            'username = "celcombiller"\nsecret = "wrong"\n'
        )
        (here / "celcombiller.toml").write_text(quiet() + server)
        (here / "celcombiller.toml").chmod(0o600)
        answering = threading.Thread(target=refuse_login, args=(manager,))
        answering.start()
        program = "import sys; from celcombiller.cli import main; sys.exit(main(['doctor']))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        answering.join()
    assert (done.returncode, "refuses the login of celcombiller" in done.stdout, done.stderr) == (1, True, "")
    assert "permit=" in done.stdout
    assert "wrong" not in done.stdout


def refuse_login(manager):
    """Play an Asterisk that does not know the secret."""
    connection, _ = manager.accept()
    with connection, connection.makefile("rwb") as stream:
        stream.write(b"Asterisk Call Manager/9.0.0\r\n")
        stream.flush()
        fields = dict(line.split(": ", 1) for line in iter(lambda: stream.readline().decode().strip(), ""))
        answer = f"Response: Error\r\nActionID: {fields['ActionID']}\r\nMessage: Authentication failed\r\n\r\n"
        stream.write(answer.encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refused", "status", "found", "remedy"),
    [
        ({}, 0, "accepts 'biller'", None),
        ({"bind_transceiver": consts.SMPP_ESME_RINVCMDID}, 0, "accepts 'biller'", None),
        ({"bind_transceiver": consts.SMPP_ESME_RALYBND}, 0, "bound already", None),
        ({"bind_transceiver": consts.SMPP_ESME_RINVPASWD}, 1, "does not let us in", "smpp.password"),
        ({"bind_transceiver": consts.SMPP_ESME_RINVSYSID}, 1, "does not let us in", "smpp.system_id"),
        ({"bind_transceiver": MessageCentre.CUT, "bind_transmitter": MessageCentre.CUT}, 1, "does not let", "smpp.tls"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_doctor_binds_to_the_message_centre(ready, here, refused, status, found, remedy):
    """In a process of its own, for the reactor runs once: 1 s each."""
    centre = MessageCentre()
    centre.refused = refused
    smpp = f'[smpp]\nhost = "127.0.0.1"\nport = {centre.port}\nsystem_id = "biller"\npassword = "hush"\n'
    (here / "celcombiller.toml").write_text(quiet() + smpp)
    (here / "celcombiller.toml").chmod(0o600)
    program = "import sys; from celcombiller.cli import main; sys.exit(main(['doctor', '--json']))"
    command = partial(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    done = await deferToThread(command)
    await centre.stop()
    (smsc,) = [each for each in json.loads(done.stdout) if each["subject"] == "smpp"]
    assert (done.returncode, done.stderr) == (status, "")
    assert found in smsc["found"]
    assert (remedy or "") in smsc["remedy"]
    assert bool(smsc["remedy"]) == bool(remedy)
    assert "hush" not in done.stdout
