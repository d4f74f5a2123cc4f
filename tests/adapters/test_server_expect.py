"""`Expect: 100-continue` (RFC 9110 §10.1.1) and other 1xx: the upstream decides, the client hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, OK, READ, READ_HEAD, READ_MORE, STALL

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

EXPECTS = b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.css>\r\n\r\n"


async def test_the_client_is_told_to_continue_and_its_body_follows(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, CONTINUE, READ_MORE, OK))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(EXPECTS)
    assert (await client.head()).status == 100
    await client.send(b"hello")

    response = await client.response("POST")
    assert (response.status, [interim.status for interim in response.interim]) == (200, [100])
    assert origin.request.body == b"hello"


async def test_the_upstream_sees_the_expectation_before_any_body(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, CONTINUE, READ_MORE, OK))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(EXPECTS)
    await origin.until(lambda seen: seen.connections and b"\r\n\r\n" in seen.connections[0].received)

    assert b"expect: 100-continue\r\n" in bytes(origin.connections[0].received).lower()
    assert origin.connections[0].received.endswith(b"\r\n\r\n")


async def test_the_upstream_may_refuse_without_reading_the_body(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, TOO_LARGE, STALL), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(EXPECTS, "POST")

    assert (response.status, response.interim) == (413, ())
    assert await origin.ended() is not None, "a connection whose body was never sent is not reused"
    assert await sidecar.is_well()


async def test_a_client_that_sends_the_body_without_waiting_is_served(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    assert (await client.exchange(EXPECTS + b"hello", "POST")).status == 200
    assert origin.request.body == b"hello"
    assert await client.is_usable()


async def test_a_client_is_not_left_waiting_by_an_upstream_that_does_not_know_expect(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    """The final answer to a head alone settles it: whoever waits for 100 gets that instead."""
    origin = await start_origin((READ_HEAD, OK, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    assert (await client.exchange(EXPECTS, "POST")).status == 200


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x", b"100-continuex"])
async def test_an_unknown_expectation_is_refused(
    start_origin: StartOrigin, start_sidecar: StartSidecar, value: bytes
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    response = await sidecar.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: " + value + b"\r\n\r\n")

    assert response.status == 417
    assert origin.connections == []


async def test_an_http10_client_gets_no_interim_answer(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, CONTINUE + HINTS + OK, AGAIN))
    sidecar = await start_sidecar(origin)

    response = await sidecar.exchange(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "POST"
    )

    assert (response.status, response.interim) == (200, ())
    assert "expect" not in origin.request


async def test_early_hints_reach_the_client_as_they_were_sent(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, HINTS, HINTS, OK, AGAIN))
    sidecar = await start_sidecar(origin)

    response = await sidecar.get()

    assert (response.status, response.body) == (200, b"ok")
    assert [interim.status for interim in response.interim] == [103, 103]
    assert response.interim[0].all("link") == [b"</a.css>; rel=preload", b"</b.css>"]


async def test_interim_answers_arrive_before_the_final_one_exists(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, HINTS, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert (await client.head()).status == 103


async def test_hop_by_hop_fields_of_an_interim_answer_stop_here(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nConnection: X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\nLink: <a>\r\n\r\n"
    origin = await start_origin((READ, hints + OK, AGAIN))
    sidecar = await start_sidecar(origin)

    (interim,) = (await sidecar.get()).interim

    assert [name for name, _ in interim.fields if name.lower() != b"via"] == [b"Link"]


async def test_the_cached_connection_is_reused_after_interim_answers(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, HINTS + OK, AGAIN))
    sidecar = await start_sidecar(origin)

    for _ in range(3):
        assert (await sidecar.get()).status == 200

    assert len(origin.connections) == 1
