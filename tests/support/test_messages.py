"""The judge is strict: what a careful peer could misread is no message."""

from __future__ import annotations

import pytest

from tests.support.messages import Malformed, take_request, take_response

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "method", "ended", "body"),
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\nok", "GET", False, b"ok", id="length"),
        pytest.param(OK + b"Content-Length: 2\r\n\r\n", "HEAD", False, b"", id="head"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n", "GET", False, b"ok", id="chunked"
        ),
        pytest.param(OK + b"Connection: close\r\n\r\nok", "GET", True, b"ok", id="close-delimited"),
        pytest.param(
            b"HTTP/1.1 103 \r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", "GET", False, b"", id="after-interim"
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", "GET", False, b"", id="204"),
    ],
)
def test_takes_exactly_one_whole_response(data: bytes, method: str, ended: bool, body: bytes) -> None:  # noqa: FBT001 - a table's column
    taken = take_response(data + (b"" if ended else b"more"), method, ended=ended)
    assert taken is not None
    assert (taken[0].body, taken[1]) == (body, len(data))
    for cut in range(len(data)):
        assert take_response(data[:cut], method, ended=False) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", id="version"),
        pytest.param(b"HTTP/1.1 200\r\n\r\n", id="no-space-after-status"),
        pytest.param(OK + b"A : b\r\n\r\n", id="space-before-colon"),
        pytest.param(OK + b"A: b\r\n c\r\n\r\n", id="folded"),
        pytest.param(OK + b"A: b\x00\r\n\r\n", id="nul"),
        pytest.param(OK + b"A: b\n", id="bare-lf"),
        pytest.param(OK + b"A: b\rc", id="bare-cr"),
        pytest.param(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", id="both-framings"),
        pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", id="two-lengths"),
        pytest.param(OK + b"Content-Length: +2\r\n\r\nok", id="signed-length"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n", id="chunk-size"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokXX", id="chunk-end"),
        pytest.param(OK + b"\r\nendless", id="unannounced-close"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", id="204-with-length"),
    ],
)
def test_refuses_what_could_be_misread(data: bytes) -> None:
    with pytest.raises(Malformed):
        take_response(data, "GET", ended=True)


def test_reads_a_request_with_its_body() -> None:
    data = b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
    taken = take_request(data + b"more")
    assert taken is not None
    assert (taken[0].line, taken[0].body, taken[1]) == ("POST /a?b", b"ok", len(data))
    assert take_request(data[:-1]) is None
