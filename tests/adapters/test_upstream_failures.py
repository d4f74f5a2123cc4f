"""Upstreams that break before their answer's head is whole: what the client is told, and the pool afterwards."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import (
    AGAIN,
    CLOSE,
    HALF_CLOSE,
    OK,
    PAUSE,
    READ,
    RESET,
    STALL,
    Endlessly,
    Script,
    Slowly,
)
from tests.support.running import ROUTE

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.messages import WireResponse

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def assert_problem(response: WireResponse, status: int, error: str, reason: str | None = None) -> None:
    """The answer is the problem+json that contract.md §3 promises."""
    assert response.status == status
    assert response.get("content-type") == b"application/problem+json"
    assert response.get("proxy-status") == f"sidecar; error={error}".encode()
    problem = json.loads(response.body)
    assert {"type", "title", "status", "detail", "route", "circuit", "reason"} <= problem.keys()
    assert (problem["status"], problem["route"], problem["circuit"]) == (status, ROUTE, ROUTE)
    assert problem["reason"] == (reason or error)
    assert isinstance(problem["detail"], str)
    assert problem["detail"]


@dataclass(frozen=True)
class Broken:
    """An origin's script, and the error that it is."""

    script: Script
    status: int
    error: str


def lost(*script: Any) -> Broken:
    return Broken(script, 502, "connection_terminated")


def malformed(*sent: bytes | Endlessly) -> Broken:
    return Broken((READ, *sent, STALL), 502, "http_protocol_error")


def late(*script: Any) -> Broken:
    return Broken(script, 504, "http_response_timeout")


LOST = {
    "closes-without-reading": lost(CLOSE),
    "resets-without-reading": lost(RESET),
    "closes-after-the-request": lost(READ, CLOSE),
    "half-closes-after-the-request": lost(READ, HALF_CLOSE, STALL),
    "resets-after-the-request": lost(READ, RESET),
    "closes-in-status-line": lost(READ, b"HTTP/1.1 20", CLOSE),
    "resets-in-status-line": lost(READ, b"HTTP/1.1 20", RESET),
    "closes-after-status-line": lost(READ, b"HTTP/1.1 200 OK\r\n", CLOSE),
    "closes-in-fields": lost(READ, b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE),
    "resets-in-fields": lost(READ, LENGTH, RESET),
    "closes-before-the-empty-line": lost(READ, LENGTH, CLOSE),
    "half-closes-in-fields": lost(READ, LENGTH, HALF_CLOSE, STALL),
    "closes-after-an-interim-answer": lost(READ, b"HTTP/1.1 103 Early Hints\r\n\r\n", CLOSE),
    "resets-after-an-interim-answer": lost(READ, b"HTTP/1.1 100 Continue\r\n\r\n", RESET),
}

MALFORMED = {
    "ssh-banner": malformed(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "smtp-banner": malformed(b"220 mail ESMTP\r\n"),
    "html": malformed(b"<html><body>hello</body></html>\r\n\r\n"),
    "tls-alert": malformed(b"\x15\x03\x01\x00\x02\x02\x0a"),
    "nul": malformed(b"\x00"),
    "http2-settings": malformed(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"),
    "status-not-digits": malformed(b"HTTP/1.1 abc OK\r\n\r\n"),
    "status-two-digits": malformed(b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    "status-four-digits": malformed(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "status-below-100": malformed(b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n"),
    "status-signed": malformed(b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n"),
    "version-2": malformed(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "version-09": malformed(b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "version-missing": malformed(b"200 OK\r\nContent-Length: 0\r\n\r\n"),
    "version-lower-case": malformed(b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "other-protocol": malformed(b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "tab-after-version": malformed(b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n"),
    "bare-lf-lines": malformed(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    "bare-cr-in-reason": malformed(b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
    "nul-in-reason": malformed(b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"),
    "nul-in-value": malformed(LENGTH + b"X: a\x00b\r\n\r\nok"),
    "bare-cr-in-value": malformed(LENGTH + b"X: a\rSet-Cookie: b=c\r\n\r\nok"),
    "bare-lf-in-value": malformed(LENGTH + b"X: a\nSet-Cookie: b=c\r\n\r\nok"),
    "control-in-value": malformed(LENGTH + b"X: a\x01b\r\n\r\nok"),
    "fold": malformed(LENGTH + b"X: a\r\n b\r\n\r\nok"),
    "space-before-colon": malformed(LENGTH + b"X : a\r\n\r\nok"),
    "space-in-name": malformed(LENGTH + b"X Y: a\r\n\r\nok"),
    "no-colon": malformed(LENGTH + b"X\r\n\r\nok"),
    "empty-name": malformed(LENGTH + b": a\r\n\r\nok"),
    "cl-twice-equal": malformed(LENGTH + b"Content-Length: 2\r\n\r\nok"),
    "cl-twice-different": malformed(LENGTH + b"Content-Length: 3\r\n\r\nok"),
    "cl-list": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    "cl-signed": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    "cl-negative": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
    "cl-hex": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"),
    "cl-empty": malformed(b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"),
    "cl-inner-space": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok"),
    "cl-2-to-64-plus-2": malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"),
    "cl-and-te": malformed(LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "te-and-cl": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "te-gzip": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx"),
    "te-gzip-chunked": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "te-chunked-not-last": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "te-chunked-twice": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "te-two-lines": malformed(b"HTTP/1.1 200 OK" + b"\r\nTransfer-Encoding: chunked" * 2 + b"\r\n\r\n0\r\n\r\n"),
    "te-http10": malformed(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "te-vertical-tab": malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "101-unasked": malformed(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    "101-bare": malformed(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "header-flood": malformed(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 50_000 + b"\r\n"),
    "value-of-a-megabyte": malformed(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "reason-of-a-megabyte": malformed(b"HTTP/1.1 200 " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "fields-never-end": malformed(b"HTTP/1.1 200 OK\r\n", Endlessly(b"X: 1\r\n" * 100)),
    "value-never-ends": malformed(b"HTTP/1.1 200 OK\r\nX: ", Endlessly(b"a" * 1000)),
    "interim-never-ends": malformed(Endlessly(b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n")),
    "empty-lines-never-end": malformed(Endlessly(b"\r\n" * 100)),
}  # fmt: skip

LATE = {
    "accepts-and-stalls": late(STALL),
    "reads-and-stalls": late(READ, STALL),
    "stalls-in-status-line": late(READ, b"HTTP/1.1 20", STALL),
    "stalls-in-fields": late(READ, LENGTH, STALL),
    "trickles-the-head": late(READ, Slowly(LENGTH + b"X: 1\r\n" * 100)),
    "trickles-interim-answers": late(READ, Slowly(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)),
    "continues-and-stalls": late(READ, b"HTTP/1.1 100 Continue\r\n\r\n", STALL),
}


@pytest.mark.parametrize("broken", {**LOST, **MALFORMED, **LATE}.values(), ids={**LOST, **MALFORMED, **LATE}.keys())
async def test_tells_the_client_why_and_uses_a_fresh_connection_next(
    start_origin: StartOrigin, start_sidecar: StartSidecar, broken: Broken
) -> None:
    origin = await start_origin(broken.script, (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"first_byte": "250ms"}})
    client = await sidecar.connect()

    response = await client.exchange(GOOD)

    assert_problem(response, broken.status, broken.error)
    assert await origin.ended() is not None
    assert await client.is_usable()
    assert len(origin.connections) == 2
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_circuit_calls_total", outcome="failure") == 1
    assert metrics.total("sidecar_upstream_attempts_total", result=broken.error) == 1
    assert metrics.total("sidecar_requests_total", source="error", code=str(broken.status)) == 1


@pytest.mark.parametrize("broken", LOST.values(), ids=LOST.keys())
async def test_a_request_on_a_fresh_connection_is_never_sent_twice(
    start_origin: StartOrigin, start_sidecar: StartSidecar, broken: Broken
) -> None:
    origin = await start_origin(broken.script)
    sidecar = await start_sidecar(origin)

    assert (await sidecar.get()).status == 502

    assert await sidecar.is_quiet()
    assert len(origin.connections) == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_port_where_nobody_listens_is_refused(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(f"http://127.0.0.1:{free_port()}")

    assert_problem(await sidecar.get(), 502, "connection_refused")


async def test_a_unix_socket_that_does_not_exist_is_refused(start_sidecar: StartSidecar, tmp_path: Any) -> None:
    sidecar = await start_sidecar(f"unix:{tmp_path}/nobody.sock")

    assert_problem(await sidecar.get(), 502, "connection_refused")


async def test_a_name_that_does_not_resolve_is_a_dns_error(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar("http://nowhere.invalid:80")

    assert_problem(await sidecar.get(), 502, "dns_error")


async def test_a_connection_that_is_never_accepted_times_out(start_sidecar: StartSidecar) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())
        sidecar = await start_sidecar(
            f"http://127.0.0.1:{full.getsockname()[1]}", upstream={"timeouts": {"connect": "150ms"}}
        )

        assert_problem(await sidecar.get(), 504, "connection_timeout")

        for waiting in queue:
            waiting.close()


async def test_the_total_timeout_covers_a_body_that_trickles(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", Slowly(b"x" * 1000)))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"total": "300ms", "idle": "10s"}})
    client = await sidecar.connect()

    await client.send(GOOD)

    assert await client.was_cut()
    assert await origin.ended() is not None


async def test_the_total_timeout_before_the_head_is_504(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"total": "150ms"}})

    assert_problem(await sidecar.get(), 504, "http_response_timeout", "total_timeout")


async def test_a_body_that_stands_still_is_cut_after_the_idle_timeout(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!", STALL))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"idle": "150ms"}})
    client = await sidecar.connect()

    await client.send(GOOD)
    assert (await client.head()).status == 200

    assert await client.was_cut()
    assert await origin.ended() is not None
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 1


async def test_an_upstream_that_does_not_read_the_request_body_times_out(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((PAUSE, STALL))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"idle": "200ms", "first_byte": "200ms"}})
    client = await sidecar.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    client.transport.write(bytes(40_000_000))

    assert (await client.response("POST")).status == 504
    assert await client.has_closed()


SPOILED_BODIES = {
    "chunk-size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "chunk-size-signed": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n",
    "chunk-size-overflow": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000000\r\n",
    "chunk-end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "chunk-bare-lf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\n\n",
    "extension-flood": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;" + b"a" * 500_000,
    "trailer-flood": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 50_000,
    "trailer-endless": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: " + b"a" * 500_000,
    "trailer-fold": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("sent", SPOILED_BODIES.values(), ids=SPOILED_BODIES.keys())
async def test_a_body_that_turns_malformed_never_looks_whole(
    start_origin: StartOrigin, start_sidecar: StartSidecar, sent: bytes
) -> None:
    head, _, rest = sent.partition(b"hello")
    origin = await start_origin((READ, head + b"hello", rest, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(GOOD)

    if (await client.head()).status == 200:
        assert await client.was_cut()
    else:
        assert_problem(await client.response(), 502, "http_protocol_error")
    assert await origin.ended() is not None
    assert await sidecar.is_well()
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 1
