"""What is believed of a request: who the client is, whether it is a program of this machine, which page sent it."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celcombiller.config.tables import Config, Metrics, Rest
from celcombiller.core.access.principal import hash_secret
from celcombiller.core.errors import Forbidden
from celcombiller.http.origin import allow_origin, check_origin
from celcombiller.http.request_context import (
    find_client_address,
    is_local,
    is_secure,
    make_request,
    parse_hop,
    parse_origin,
    read_session_secrets,
)
from celcombiller.rest.operations import metrics
from tests.support.http.requests import make_http_request

HOST = "Host: 127.0.0.1:5000"
NGINX = Rest(trusted_proxies=("127.0.0.1", "10.0.0.9"))
SOCKET = Rest(trusted_proxies=("unix",))
API = "Host: api.example.org"


def address_of(peer, *headers, settings=NGINX):
    return find_client_address(make_http_request(peer, HOST, *headers), settings)


# -- the client's address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7, 10.0.0.9:80", "203.0.113.7"),
        ("203.0.113.7,,", "203.0.113.7"),
        ("203.0.113.7, unknown", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("203.0.113.7:port", "127.0.0.1"),
        ("", "127.0.0.1"),
        (" , ", "127.0.0.1"),
        ("203.0.113.7\u00e9", "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_the_client(value, client):
    assert address_of("127.0.0.1", f"X-Forwarded-For: {value}") == client


def test_several_lines_of_a_header_are_one_list():
    assert address_of("127.0.0.1", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.0.0.9") == "203.0.113.7"
    assert address_of("127.0.0.1", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.7") == "203.0.113.7"


def test_who_is_no_trusted_proxy_names_none():
    assert address_of("192.0.2.1", "X-Forwarded-For: 203.0.113.7") == "192.0.2.1"
    assert address_of("127.0.0.1", "X-Forwarded-For: 203.0.113.7", settings=Rest()) == "127.0.0.1"


def test_the_peer_of_a_socket_may_be_trusted():
    assert address_of("unix", "X-Forwarded-For: 203.0.113.7", settings=SOCKET) == "203.0.113.7"
    assert address_of("unix", "X-Forwarded-For: 203.0.113.7") == "unix"


def test_a_proxy_is_trusted_in_any_address_form():
    settings = Rest(trusted_proxies=("0:0:0:0:0:0:0:1", "::ffff:10.0.0.9"))
    assert address_of("::1", "X-Forwarded-For: 203.0.113.7", settings=settings) == "203.0.113.7"
    assert address_of("10.0.0.9", "X-Forwarded-For: 203.0.113.7", settings=settings) == "203.0.113.7"
    assert address_of("::ffff:127.0.0.1", "X-Forwarded-For: 203.0.113.7") == "203.0.113.7"


@given(st.text(string.digits + "abcdef.:[] %", max_size=60))
@example("1.2.3.4:99999")
@example("[1.2.3.4]:80")
@example("fe80::1%eth0")
def test_a_hop_is_an_address_or_none(text):
    found = parse_hop(text)
    assert found is None or parse_hop(found) == found


# -- whether the client is on this machine -----------------------------------------------------------------------------


def is_free(peer, *headers, settings=NGINX, allow=("127.0.0.1", "::1", "10.0.0.0/8"), version="HTTP/1.1"):
    http_request = make_http_request(peer, *headers, version=version)
    config = Config(rest=settings, metrics=Metrics(allow=allow))

    class Api:
        pass

    Api.config = config
    return metrics.is_free(Api, http_request, make_request(http_request, config, {}))


def test_a_program_of_this_machine_is_local():
    for peer, host in (("127.0.0.1", HOST), ("::1", "Host: [::1]:5000"), ("::ffff:127.0.0.1", "Host: LOCALHOST")):
        assert is_local(make_http_request(peer, host), Rest())
        assert is_free(peer, host, settings=Rest())


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For:",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: 127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "Forwarded:",
        "Via: 1.1 proxy",
        "Origin: http://127.0.0.1:5000",
        "Origin:",
    ],
)
@pytest.mark.parametrize("settings", [Rest(), NGINX])
def test_requests_of_proxies_and_pages_are_not_local(header, settings):
    assert not is_local(make_http_request("127.0.0.1", HOST, header), settings)
    assert not is_free("127.0.0.1", HOST, header, settings=settings)


def test_a_trusted_proxy_without_header_is_not_local():
    assert not is_local(make_http_request("127.0.0.1", HOST), NGINX)
    assert not is_free("127.0.0.1", HOST)
    assert not is_free("10.0.0.9", HOST)
    assert not is_free("10.0.0.9", HOST, "X-Forwarded-For: unknown")


def test_http_1_0_is_never_local():
    assert not is_local(make_http_request("127.0.0.1", HOST, "Connection: close", version="HTTP/1.0"), Rest())
    assert not is_free("127.0.0.1", HOST, settings=Rest(), version="HTTP/1.0")


def test_another_host_is_not_local():
    for host in (
        "Host: api.example.org",
        "Host: localhost.example.org",
        "Host: x@localhost",
        "Host: [::1",
        "Host: :5000",
    ):
        assert not is_local(make_http_request("127.0.0.1", host), Rest())
    assert not is_local(make_http_request("192.0.2.1", HOST), Rest())
    assert not is_local(make_http_request("unix", HOST), Rest())


def test_a_proxy_lets_in_whom_the_metrics_allow():
    assert is_free("127.0.0.1", HOST, "X-Forwarded-For: 10.0.0.5")
    assert not is_free("127.0.0.1", HOST, "X-Forwarded-For: 192.0.2.5")
    assert is_free("unix", HOST, "X-Forwarded-For: 10.0.0.5", settings=SOCKET)
    assert not is_free("unix", HOST, settings=SOCKET)


# -- the scheme and the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "secure"),
    [
        (["https"], True),
        (["HTTPS"], True),
        (["https, http"], True),
        (["https,http"], True),
        (["https", "http"], True),
        (["http, https"], False),
        (["", "https"], True),
        ([""], False),
        (["wss"], False),
    ],
)
def test_the_scheme_is_that_of_the_first_hop(lines, secure):
    headers = [f"X-Forwarded-Proto: {each}" for each in lines]
    assert is_secure(make_http_request("127.0.0.1", HOST, *headers), NGINX) is secure
    assert not is_secure(make_http_request("192.0.2.1", HOST, *headers), NGINX)


def is_accepted(origin, host, *headers, settings=NGINX, name="Origin"):
    request = make_http_request("127.0.0.1", host, f"{name}: {origin}", *headers, method="POST")
    try:
        check_origin(request, settings)
    except Forbidden:
        return False
    return True


HTTPS = "X-Forwarded-Proto: https"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://api.example.org", "Host: api.example.org:443"),
        ("https://api.example.org:443", "Host: api.example.org"),
        ("https://API.example.org", "Host: api.Example.org"),
        ("HTTPS://api.example.org", "Host: api.example.org"),
        ("https://api.example.org:8443", "Host: api.example.org:8443"),
        ("https://[2001:db8::1]", "Host: [2001:DB8::1]:443"),
        ("https://api.example.org.", "Host: api.example.org"),
    ],
)
def test_origins_are_compared_as_values(origin, host):
    assert is_accepted(origin, host, HTTPS)
    assert is_accepted(f"{origin}/some/page?x=1", host, HTTPS, name="Referer")


@pytest.mark.parametrize(
    "origin",
    [
        "http://api.example.org",
        "https://api.example.org:8443",
        "https://api.example.org.evil.example",
        "https://api.example.org@evil.example",
        "https://evil.example/api.example.org",
        "https://user@api.example.org",
        "null",
        "",
        "https://api.example.org:x",
        "https://[api.example.org",
        "ftp://api.example.org",
    ],
)
def test_a_page_of_another_origin_is_refused(origin):
    assert not is_accepted(origin, API, HTTPS)


def test_two_empty_origins_are_not_the_same():
    assert not is_accepted("https://[", "Host: [", HTTPS)
    assert not is_accepted("null", "Host:", HTTPS)


def test_the_origins_of_the_settings_are_values_too():
    settings = Rest(cors_origins=("https://console.example.org:443",))
    for origin, allowed in (("https://Console.example.org", True), ("https://console.example.org:8443", False)):
        assert is_accepted(origin, API, settings=settings) is allowed
        request = make_http_request("127.0.0.1", API, f"Origin: {origin}")
        assert allow_origin(request, settings) is allowed
        echoed = request.responseHeaders.getRawHeaders("Access-Control-Allow-Origin")
        assert echoed == ([origin] if allowed else None)


@given(st.text(max_size=40))
@example("https://[::1%25]")
@example("https://\u212aelvin")
def test_any_text_is_an_origin_or_none(text):
    found = parse_origin(text)
    assert found is None or found[0] in ("http", "https")


# -- cookies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "secrets"),
    [
        (["session=a"], ("a",)),
        (["session=a; session=b"], ("a", "b")),
        (["session=a", "x=y; session=b"], ("a", "b")),
        (['x=session=a;session = a ;session="b"'], ("a", "b")),
        (["session=; Session=c; sessions=d; session"], ()),
        ([";;=;session=a;a", ""], ("a",)),
        (["session=\udce9\udce9"], ("\ufffd\ufffd",)),
    ],
)
def test_any_cookie_of_our_name_may_be_ours(lines, secrets):
    found = read_session_secrets(make_http_request("127.0.0.1", HOST, *(f"Cookie: {each}" for each in lines)))
    assert found == secrets
    assert all(hash_secret(each) for each in found)
