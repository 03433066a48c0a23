"""Real proxies in front: nginx as its manual has it, with headers, over a UNIX socket, with a slow client; HAProxy."""

import json
import shutil
import socket
import subprocess
import time

import pytest

from celcombiller.bench.environment import listens
from tests.system.lab.biller import Biller
from tests.system.lab.requirements import PROGRAMS
from tests.system.lab.waiting import end, free_ports, until

NGINX = """
daemon off;
user root;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            {headers}
        }}
    }}
}}
"""
FORWARDED = """
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
"""
HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend web
    bind 127.0.0.1:{port}
    {headers}
    default_backend biller
backend biller
    server one 127.0.0.1:{upstream} {options}
"""


class Proxy:
    """A proxy in a process of its own."""

    def __init__(self, folder, port, command, text):
        folder.mkdir()
        folder.joinpath("proxy.conf").write_text(text)
        self.port = port
        with folder.joinpath("log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        until(lambda: listens(port), "the proxy listens")

    def get(self, path, *words):
        """Return status and body of an answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", *words, url], capture_output=True, text=True, check=True
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def stop(self):
        end(self._process)


def nginx(folder, upstream, headers=""):
    port = free_ports(1)
    program = shutil.which("nginx", path=PROGRAMS)
    text = NGINX.format(port=port, upstream=upstream, headers=headers)
    return Proxy(folder, port, [program, "-p", str(folder), "-c", "proxy.conf", "-e", "stderr"], text)


def haproxy(folder, upstream, *, mode="http", headers="", options=""):
    port = free_ports(1)
    program = shutil.which("haproxy", path=PROGRAMS)
    text = HAPROXY.format(port=port, upstream=upstream, mode=mode, headers=headers, options=options)
    return Proxy(folder, port, [program, "-db", "-f", "proxy.conf"], text)


@pytest.fixture
def running(parts, tmp_path):
    """Return a function that starts a biller with settings of ``[rest]``, and remembers proxies to stop."""
    started = []

    def start(listen="", **rest):
        biller = Biller(tmp_path / "biller")
        biller.rest_listen = listen or biller.rest_listen
        biller.rest = {"balance_checks": "loopback", **rest}
        biller.write()
        biller.folder.joinpath("password").write_text("correct horse")
        biller.run("init", "--admin", "admin", "--password-file", "password")
        started.append(biller.start())
        return biller

    yield start, started
    for each in reversed(started):
        each.stop()


def from_outside(proxy, *words):
    """Return the statuses of what only programs of this machine may ask."""
    return [
        proxy.get("/metrics", *words)[0],
        proxy.get("/check_voice_balance", "-X", "POST", "-d", '{"imsi":"724000000002001"}', *words)[0],
    ]


def address_of_login(biller, proxy, *words):
    """Log in through the proxy; return the address that the audit trail has for it."""
    credentials = "username=admin&password=correct horse"
    status, _ = proxy.get("/login", "-d", credentials, "-c", str(biller.folder / "jar"), *words)
    assert status == 200
    _, trail = proxy.get("/api/v1/trail", "-b", str(biller.folder / "jar"))
    return json.loads(trail)["items"][0]["address"]


def test_a_plain_proxy_pass_makes_no_client_local(running, tmp_path):
    start, started = running
    biller = start()
    proxy = nginx(tmp_path / "nginx", f"http://127.0.0.1:{biller.rest_port}")
    started.append(proxy)
    assert from_outside(proxy) == [401, 401]
    direct = Proxy.__new__(Proxy)
    direct.port = biller.rest_port
    assert from_outside(direct)[0] == 200
    assert from_outside(direct)[1] != 401


def test_a_trusted_nginx_names_the_client(running, tmp_path):
    start, started = running
    biller = start(trusted_proxies=["127.0.0.1"])
    plain = nginx(tmp_path / "plain", f"http://127.0.0.1:{biller.rest_port}")
    proxy = nginx(tmp_path / "nginx", f"http://127.0.0.1:{biller.rest_port}", FORWARDED)
    started += [plain, proxy]
    assert from_outside(plain) == [401, 401]
    assert from_outside(proxy) == [401, 401]
    # What the client itself sent stands first in the list, and nginx adds its own peer, a trusted address.
    assert address_of_login(biller, proxy, "-H", "X-Forwarded-For: 203.0.113.7:51234") == "203.0.113.7"
    assert address_of_login(biller, proxy, "-H", f"Origin: http://127.0.0.1:{proxy.port}") == "127.0.0.1"


def test_nginx_reaches_the_biller_by_a_unix_socket(running, tmp_path):
    start, started = running
    path = tmp_path / "rest.socket"
    biller = start(trusted_proxies=["unix"], listen=f"unix:{path}")
    proxy = nginx(
        tmp_path / "nginx", f"http://unix:{path}:", FORWARDED.replace("$proxy_add_x_forwarded_for", "198.51.100.9")
    )
    started.append(proxy)
    assert from_outside(proxy) == [401, 401]
    assert address_of_login(biller, proxy) == "198.51.100.9"


def test_haproxys_own_header_line_is_read(running, tmp_path):
    start, started = running
    biller = start(trusted_proxies=["127.0.0.1"])
    headers = "option forwardfor\n    http-request set-header X-Forwarded-Proto HTTPS"
    proxy = haproxy(tmp_path / "haproxy", biller.rest_port, headers=headers)
    started.append(proxy)
    assert from_outside(proxy) == [401, 401]
    assert address_of_login(biller, proxy, "-H", "X-Forwarded-For: 203.0.113.7") == "203.0.113.7"
    origin = f"https://127.0.0.1:{proxy.port}"
    assert address_of_login(biller, proxy, "-H", f"Origin: {origin}") == "127.0.0.1"


def test_haproxy_names_the_client_by_its_own_protocol(running, tmp_path):
    start, started = running
    port = free_ports(1)
    biller = start(listen=f"haproxy:tcp:{port}:interface=127.0.0.1")
    proxy = haproxy(tmp_path / "haproxy", port, mode="tcp", options="send-proxy")
    started.append(proxy)
    assert from_outside(proxy, "--interface", "127.0.0.5", "-H", "Host: billing.example.org") == [401, 401]
    assert address_of_login(biller, proxy, "--interface", "127.0.0.5") == "127.0.0.5"


def test_nginxs_slow_client_holds_up_no_other(running, tmp_path):
    start, started = running
    biller = start(trusted_proxies=["127.0.0.1"], head_seconds=1, body_seconds=1)
    proxy = nginx(
        tmp_path / "nginx",
        f"http://127.0.0.1:{biller.rest_port}",
        "proxy_request_buffering off; proxy_http_version 1.1;",
    )
    started.append(proxy)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as slow:
        slow.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        said = b""
        while not said and time.monotonic() < began + 20:
            slow.sendall(b"x")
            slow.settimeout(0.2)
            try:
                said = slow.recv(1000)
            except TimeoutError:
                assert proxy.get("/healthz")[0] == 200
        assert said.split()[1] in (b"408", b"502", b"504")
