"""A hit is framed, and begins, like any other answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, READ

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

STORED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok"
CACHED = {"cache": {"mode": "standard"}}


@pytest.mark.parametrize(
    ("head", "says", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", b"keep-alive", True),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"close", False),
    ],
    ids=["1.1", "1.1-close", "1.0-keep-alive", "1.0"],
)
async def test_says_whether_the_connection_stays(
    start_origin: StartOrigin, start_sidecar: StartSidecar, head: bytes, says: bytes | None, *, stays: bool
) -> None:
    sidecar = await start_sidecar(await start_origin((READ, STORED, AGAIN)), route=CACHED)
    for _ in range(2):
        await sidecar.exchange(head)
    client = await sidecar.connect()

    hit = await client.exchange(head)

    assert (hit.status, hit.body) == (200, b"ok")
    assert hit.get("cache-status") is not None
    assert hit.get("connection") == says
    assert await (client.is_usable() if stays else client.has_closed())


async def test_the_last_request_that_a_connection_may_send_closes_it(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    limits = {"limits": {"requests_per_connection": 2}}
    sidecar = await start_sidecar(await start_origin((READ, STORED, AGAIN)), route=CACHED, proxy=limits)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    await sidecar.exchange(head)
    client = await sidecar.connect()

    answers = [await client.exchange(head) for _ in range(2)]

    assert [answer.get("connection") for answer in answers] == [None, b"close"]
    assert await client.has_closed()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [(b"OK", b"OK"), (b"", b"OK"), (b"Very Well", b"Very Well"), (b"sch\xf6n", b"sch\xf6n")],
    ids=["usual", "empty", "own", "obs-text"],
)
async def test_its_status_line_is_that_of_the_miss(
    start_origin: StartOrigin, start_sidecar: StartSidecar, sent: bytes, shown: bytes
) -> None:
    answer = STORED.replace(b" OK", b" " + sent, 1)
    sidecar = await start_sidecar(await start_origin((READ, answer, AGAIN)), route=CACHED)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    miss, hit, again = [await sidecar.exchange(head) for _ in range(3)]

    assert [b"hit" in (answer.get("cache-status") or b"") for answer in (miss, hit, again)] == [False, True, True]
    assert (miss.reason, hit.reason, again.reason) == (shown, shown, shown)
