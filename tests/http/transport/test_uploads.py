"""What a request keeps of its body: little in memory, or a file of CSV on the disk."""

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.test.requesthelper import DummyChannel

from celcombiller.http.transport.http_request import UPLOADS_AT_ONCE, HttpRequest, Uploads

CSV = {b"content-type": b"Text/CSV; charset=utf-8", b"authorization": b"Bearer x"}


def received(uploads, data=b"0123456789", headers=CSV):
    request = HttpRequest(8, DummyChannel(), uploads=uploads)
    for name, value in headers.items():
        request.requestHeaders.setRawHeaders(name, [value])
    request.gotLength(None)
    for start in range(0, len(data), 3):
        request.handleContentChunk(data[start : start + 3])
    return request


def test_a_file_may_be_larger_than_a_body():
    request = received(Uploads(10))
    assert not request.too_large
    assert request.body == b""
    with request.take_upload() as upload:
        assert upload.read() == b"0123456789"


def test_a_file_has_a_limit_of_its_own():
    assert received(Uploads(9)).too_large


@pytest.mark.parametrize("missing", list(CSV))
def test_only_csv_with_a_login_is_a_file(missing):
    request = received(Uploads(10), headers={name: value for name, value in CSV.items() if name != missing})
    assert request.too_large
    assert request.take_upload() is None


def test_few_files_are_received_at_once():
    uploads = Uploads(10)
    working = [received(uploads) for _ in range(UPLOADS_AT_ONCE)]
    crowded = received(uploads)
    assert crowded.is_crowded
    assert crowded.take_upload() is None
    working[0].connectionLost(Failure(ConnectionDone()))
    assert not received(uploads).is_crowded


def test_a_file_outlives_the_connection():
    request = received(Uploads(10))
    with request.take_upload() as upload:
        request.connectionLost(Failure(ConnectionDone()))
        assert upload.read() == b"0123456789"
