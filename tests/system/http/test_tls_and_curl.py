"""The API as its users reach it: twistd in a process of its own, TLS, curl."""

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.system.lab.biller import Biller


@pytest.fixture
def biller_over_tls(parts, tmp_path):
    made = Biller(tmp_path / "biller")
    made.as_program = True
    made.folder.joinpath("pair.pem").write_bytes(certificate())
    made.rest_listen = f"ssl:{made.rest_port}:interface=127.0.0.1:privateKey=pair.pem"
    yield made
    made.stop()


def test_the_cookie_over_tls_is_secure(biller_over_tls):
    biller = biller_over_tls
    biller.folder.joinpath("password").write_text("correct horse")
    biller.write()
    biller.run_program("init", "--password-file", "password")
    biller.start()
    url = f"https://127.0.0.1:{biller.rest_port}"
    said = _curl(biller, "-i", "-c", "jar", "-d", "username=admin&password=correct horse", f"{url}/login")
    assert "200" in said.splitlines()[0]
    assert "Secure" in said
    assert "Strict-Transport-Security: max-age=" in said
    users = json.loads(_curl(biller, "-b", "jar", f"{url}/api/v1/subscribers"))
    assert [each["username"] for each in users["items"]] == ["admin"]


def test_a_silent_tls_client_is_ended(biller_over_tls):
    """2 s."""
    biller = biller_over_tls
    biller.as_program = False
    biller.rest = {"head_seconds": 1, "send_seconds": 1}
    biller.init()
    biller.start()
    address = ("127.0.0.1", biller.rest_port)
    trusting = ssl.create_default_context(cafile=biller.folder / "pair.pem")
    with (
        socket.create_connection(address, timeout=20) as silent,
        socket.create_connection(address, timeout=20) as tcp,
        trusting.wrap_socket(tcp, server_hostname="127.0.0.1") as slow,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nX")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1000) == b""
    assert "Traceback" not in biller.log


def test_tls_works_where_warnings_are_errors(biller_over_tls):
    biller = biller_over_tls
    biller.environment = {"PYTHONWARNINGS": "error"}
    biller.init()
    biller.start()
    for _ in range(2):
        assert _curl(biller, f"https://127.0.0.1:{biller.rest_port}/healthz") == '{"status":"ok"}'
    assert "Traceback" not in biller.log


def _curl(biller: Biller, *words: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--cacert", "pair.pem", *words], cwd=biller.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + biller.log
    return done.stdout


def certificate() -> bytes:
    """Make a key and its certificate for 127.0.0.1, in one PEM file as Twisted's ssl endpoint takes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)
