"""What is sent to the upstream for the cache's own sake takes the same way as the request that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.origin import READ

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

STALE_AT_ONCE = b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=0\r\nETag: "1"\r\n\r\nold'  # fmt: skip
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
STRIPPED = {"cache": {"mode": "standard"}, "rewrite": {"strip_prefix": "/shop"}}


def fresh(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nCache-Control: max-age=60\r\n\r\n%b" % (len(body), body)


async def test_a_revalidation_asks_for_the_rewritten_path(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALE_AT_ONCE, READ, NOT_MODIFIED))
    sidecar = await start_sidecar(origin, route=STRIPPED)

    await sidecar.get("/shop/item")
    again = await sidecar.get("/shop/item")

    assert (again.status, again.body) == (200, b"old")
    assert [request.line for request in origin.requests] == ["GET /item"] * 2
    assert origin.requests[1].get("if-none-match") == b'"1"'


async def test_a_forward_proxy_request_never_gets_the_answer_to_a_rewritten_path(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, fresh(b"stripped"), READ, fresh(b"whole")))
    sidecar = await start_sidecar(origin, upstream={"cache": {"mode": "standard"}}, top={"routes": []})

    stripped = await sidecar.get("/origin/item")
    whole = await sidecar.exchange(b"GET %b/origin/item HTTP/1.1\r\nHost: a\r\n\r\n" % origin.url.encode())

    assert (stripped.body, whole.body) == (b"stripped", b"whole")
    assert [request.line for request in origin.requests] == [
        "GET /item",
        "GET /origin/item",
    ]
