"""A request as it comes from a connection, without one."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.http_headers import Headers

from celcombiller.http.transport.http_request import HttpRequest


class Site:
    """What Twisted's request asks of the site."""

    _parsePOSTFormSubmission = False


class Channel:
    """The connection of a request, with its peer."""

    site = Site()
    transport = None

    def __init__(self, peer, *, tls):
        self._peer, self._tls = peer, tls

    def getPeer(self):
        return self._peer

    getHost = getPeer

    def isSecure(self):
        return self._tls


def peer_of(host):
    if host == "unix":
        return UNIXAddress(None)
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 50000)


def make_http_request(peer, *headers, method="GET", path="/", version="HTTP/1.1", tls=False):
    """Return a request from this peer with these lines of headers, such as ``"Host: x"``."""
    request = HttpRequest(1024, Channel(peer_of(peer), tls=tls))
    request.method, request.uri, request.clientproto = method.encode(), path.encode(), version.encode()
    request.path = request.uri.partition(b"?")[0]
    request.requestHeaders = Headers()
    for line in headers:
        name, _, value = line.partition(":")
        request.requestHeaders.addRawHeader(name.encode(), value.strip().encode("utf-8", "surrogateescape"))
    return request
