"""Answers that come before the request's body has been sent: relayed, and the connection is not trusted again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.origin import AGAIN, CLOSE, OK, READ, READ_HEAD, STALL

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar


async def test_an_early_answer_while_the_body_flows_is_relayed_and_the_connection_not_reused(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
    origin = await start_origin((READ_HEAD, answer, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello")
    response = await client.response("POST")

    assert (response.status, response.body) == (413, b"no")
    assert await origin.ended() is not None
    assert origin.requests == []
    assert await sidecar.is_well()
    assert len(origin.connections) == 2


async def test_an_early_answer_followed_by_a_close_reaches_a_client_that_is_still_sending(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answer = b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
    origin = await start_origin((READ_HEAD, answer, CLOSE), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(100):
        await client.send(bytes(10_000))

    response = await client.response("POST")
    assert (response.status, response.body) == (401, b"no")
    assert await sidecar.is_well()


async def test_the_rest_of_an_upload_that_was_answered_early_is_no_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
    origin = await start_origin((READ_HEAD, answer, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(smuggled) + 5))
    assert (await client.response("POST")).status == 413
    await client.send(b"hello" + smuggled)

    assert await sidecar.is_quiet()
    assert await sidecar.is_well()
    assert "GET /smuggled" not in origin.lines
