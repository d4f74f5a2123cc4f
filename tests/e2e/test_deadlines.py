"""Deadlines in and out, through real sockets: what is passed on, what is refused, and who is blamed."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.origin import AGAIN, CLOSE, GATE, READ, READ_HEAD, RESET, STALL, WELL_BEHAVED, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.messages import WireResponse
    from tests.support.running import InProcess, Metrics

FIELD = "x-request-timeout-ms"
BREAKER = {"failure_threshold": 1, "open_duration": "1h"}
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\n\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 2\r\n\r\nno"
GET = "GET / HTTP/1.1\r\nHost: a\r\n"


def asking(milliseconds: object, *lines: str) -> bytes:
    return ("\r\n".join([GET + f"{FIELD}: {milliseconds}", *lines]) + "\r\n\r\n").encode()


def reason(answer: WireResponse) -> str:
    return str(json.loads(answer.body)["reason"])


@pytest.fixture
def blackhole() -> Iterator[str]:
    """The URL of a listener whose queue is full: connecting to it takes for ever."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = sockets.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def outcomes(sidecar: InProcess) -> dict[str, float]:
    metrics = await sidecar.metrics()
    names = ("success", "failure", "cancelled", "not_sent", "slow", "throttled", "ignored")
    counts = {name: metrics.total("sidecar_circuit_calls_total", outcome=name) for name in names}
    return {name: count for name, count in counts.items() if count}


def exceeded(metrics: Metrics) -> float:
    return metrics.total("sidecar_deadline_exceeded_total", route="all")


# What is passed on


@pytest.mark.parametrize("given", [2000, 5000, 86_400_000, "0005000"])
async def test_what_is_passed_on_is_less_than_what_was_given(
    start_origin: StartOrigin, start_sidecar: StartSidecar, given: object
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    assert (await sidecar.exchange(asking(given))).status == 200
    passed = int(origin.request.get(FIELD) or b"")
    assert int(str(given)) - 1000 < passed < int(str(given))


@pytest.mark.parametrize(
    ("given", "total", "at_most"), [(60_000, "2s", 1999), (1000, "2s", 999), (None, "2s", 1999), (2000, "2s", 1999)]
)
async def test_the_smaller_of_the_clients_and_the_routes_wins(
    start_origin: StartOrigin, start_sidecar: StartSidecar, given: int | None, total: str, at_most: int
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"total": total}})
    await sidecar.exchange((GET + "\r\n").encode() if given is None else asking(given))
    (passed,) = origin.request.all(FIELD)
    assert at_most - 900 < int(passed) <= at_most


@pytest.mark.parametrize("lines", [[], ["x-other: 5"]])
async def test_nothing_is_passed_on_where_neither_is_set(
    start_origin: StartOrigin, start_sidecar: StartSidecar, lines: list[str]
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    assert (await sidecar.get("/", *lines)).status == 200
    assert origin.request.get(FIELD) is None


@pytest.mark.parametrize("garbage", ["", "-1", "+5", "1.5", "5s", "1e3", "0x10", "5, 6", "\xb2", "9" * 40])
async def test_garbage_is_ignored_and_crosses_as_it_is(
    start_origin: StartOrigin, start_sidecar: StartSidecar, garbage: str
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    assert (await sidecar.get("/", f"{FIELD}: {garbage}")).status == 200
    assert origin.request.get(FIELD) == garbage.encode("latin-1")


async def test_garbage_gives_way_to_the_routes_own(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"total": "5s"}})
    await sidecar.get("/", f"{FIELD}: soon")
    (passed,) = origin.request.all(FIELD)
    assert passed.isdigit()


@pytest.mark.parametrize(
    ("header", "asked", "passed"), [(None, FIELD, b"0"), ("X-Left", "x-left", None), ("x-left", FIELD, b"0")]
)
async def test_the_field_has_another_name_or_none(
    start_origin: StartOrigin, start_sidecar: StartSidecar, header: str | None, asked: str, passed: bytes | None
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"deadline_header": header}})
    answer = await sidecar.get("/", f"{asked}: 0")
    assert answer.status == (200 if passed else 504)
    assert [request.get(asked) for request in origin.requests] == ([passed] if passed else [])


# Expired


@pytest.mark.parametrize("given", ["0", "000", "1"])
async def test_an_expired_one_touches_neither_upstream_nor_circuit(
    start_origin: StartOrigin, start_sidecar: StartSidecar, given: str
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER, "cache": {"mode": "standard"}})
    assert exceeded(await sidecar.metrics()) == 0
    answer = await sidecar.exchange(asking(given))
    assert (answer.status, reason(answer)) == (504, "deadline_exceeded")
    assert answer.get("proxy-status") == b"sidecar; error=http_response_timeout"
    assert origin.connections == []
    assert await outcomes(sidecar) == {}
    metrics = await sidecar.metrics()
    assert exceeded(metrics) == 1
    assert metrics.total("sidecar_requests_total", code="504", source="error") == 1


# Passing while something is under way


@pytest.mark.parametrize("cache", ["off", "standard"])
async def test_a_clients_deadline_is_kept_and_never_counts_against_the_circuit(
    start_origin: StartOrigin, start_sidecar: StartSidecar, cache: str
) -> None:
    origin = await start_origin((READ, STALL), WELL_BEHAVED)
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER, "cache": {"mode": cache}})
    client = await sidecar.connect()
    async with asyncio.timeout(5):
        answer = await client.exchange(asking(400))
    assert (answer.status, reason(answer)) == (504, "deadline_exceeded")
    await origin.ended()
    assert await sidecar.is_quiet()
    assert await outcomes(sidecar) == {"cancelled": 1}
    assert exceeded(await sidecar.metrics()) == 1
    assert await client.is_usable()


async def test_a_deadline_within_an_upload_is_told_and_ends_the_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER})
    client = await sidecar.connect()
    await client.send(asking(400, "Content-Length: 100").replace(b"GET", b"POST", 1) + b"half")
    assert reason(await client.response("POST")) == "deadline_exceeded"
    assert await client.has_closed()
    await origin.ended()
    assert await outcomes(sidecar) == {"cancelled": 1}


async def test_the_routes_total_counts_against_the_circuit(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER, "timeouts": {"total": "150ms"}})
    answer = await sidecar.exchange(asking(60_000))
    assert (answer.status, reason(answer)) == (504, "total_timeout")
    assert await outcomes(sidecar) == {"failure": 1}
    assert exceeded(await sidecar.metrics()) == 1


@pytest.mark.parametrize(
    ("milliseconds", "total", "outcome"), [(400, None, {"cancelled": 1}), (60_000, "400ms", {"failure": 1})]
)
async def test_an_answer_is_cut_off_when_the_time_is_over(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    milliseconds: int,
    total: str | None,
    outcome: dict[str, float],
) -> None:
    origin = await start_origin((READ, HALF, STALL))
    blocks: dict[str, Any] = {"breaker": BREAKER, "timeouts": {"total": total}}
    sidecar = await start_sidecar(origin, upstream=blocks)
    client = await sidecar.connect()
    await client.send(asking(milliseconds))
    assert await client.was_cut()
    await origin.ended()
    assert await sidecar.is_quiet()
    assert await outcomes(sidecar) == outcome
    assert exceeded(await sidecar.metrics()) == 1


async def test_an_answer_in_pieces_that_is_in_time_is_whole(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, HALF, GATE, b"x" * 96, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(asking(60_000))
    await client.until(lambda: b"half" in client.unread)
    origin.gate.set()
    assert len((await client.response()).body) == 100
    assert exceeded(await sidecar.metrics()) == 0


async def test_a_tunnel_ends_with_its_clients_deadline(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, SWITCHED, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(asking(400, "Connection: Upgrade", "Upgrade: x"))
    await client.until(lambda: client.ended)
    await origin.ended()
    assert exceeded(await sidecar.metrics()) == 1


@pytest.mark.parametrize(
    ("first", "then", "lines"),
    [(EVENTS, b"5\r\nlater\r\n", []), (SWITCHED, b"later", ["Connection: Upgrade", "Upgrade: x"])],
    ids=["events", "upgrade"],
)
async def test_streams_and_upgrades_have_no_total_unless_it_is_set(
    start_origin: StartOrigin, start_sidecar: StartSidecar, first: bytes, then: bytes, lines: list[str]
) -> None:
    origin = await start_origin((READ, first, GATE, then, STALL))
    sidecar = await start_sidecar(origin, upstream={"timeouts": {"first_byte": "200ms", "connect": "200ms"}})
    client = await sidecar.connect()
    await client.send("\r\n".join([GET.strip(), *lines, "", ""]).encode())
    await client.until(lambda: b"\r\n\r\n" in client.received)
    await asyncio.sleep(0.3)
    origin.gate.set()
    await client.until(lambda: b"later" in client.received)


@pytest.mark.parametrize("script", [(READ, GATE, TIMED_OUT, AGAIN), (READ, GATE, RESET), (READ, GATE, CLOSE)])
async def test_an_upstream_that_gives_up_at_the_clients_deadline_is_not_blamed(
    start_origin: StartOrigin, start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    # Far enough from the deadline that neither end depends on the machine's speed.
    monkeypatch.setattr("sidecar.pipeline.breaker_stage.DEADLINE_MARGIN", 30.0)
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER})
    origin.gate.set()
    assert (await sidecar.exchange(asking(20_000))).status in {502, 504}
    assert await outcomes(sidecar) == {"cancelled": 1}


async def test_an_upstream_that_gives_up_long_before_is_blamed(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, TIMED_OUT, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"breaker": BREAKER})
    assert (await sidecar.exchange(asking(60_000))).status == 504
    assert await outcomes(sidecar) == {"failure": 1}


@pytest.mark.parametrize("script", [(READ, HALF, STALL), (READ, STALL)])
async def test_a_client_that_leaves_before_its_deadline_has_exceeded_nothing(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script
) -> None:
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(asking(60_000))
    await origin.until(lambda it: it.requests)
    client.reset()
    assert await sidecar.is_quiet()
    assert exceeded(await sidecar.metrics()) == 0


# With a shared fetch


async def test_the_deadline_of_one_does_not_end_a_fetch_that_others_wait_for(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    fresh = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
    origin = await start_origin((READ, GATE, fresh, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"cache": {"mode": "standard"}, "breaker": BREAKER})
    leader, follower, patient = [await sidecar.connect() for _ in range(3)]
    await leader.send(asking(500))
    await origin.until(lambda it: it.requests)
    await follower.send(asking(400))
    await patient.send((GET + "\r\n").encode())
    assert (await follower.response()).status == (await leader.response()).status == 504
    origin.gate.set()
    assert (await patient.response()).body == b"ok"
    assert len(origin.requests) == 1
    assert await outcomes(sidecar) == {"success": 1}


@pytest.mark.parametrize("total", [None, "1h"])
async def test_a_refresh_in_the_background_has_no_clients_deadline(
    start_origin: StartOrigin, start_sidecar: StartSidecar, total: str | None
) -> None:
    stale = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0, stale-while-revalidate=60\r\nContent-Length: 2\r\n\r\nok"
    origin = await start_origin((READ, stale, AGAIN))
    cache = {"mode": "standard", "background_refresh": True}
    sidecar = await start_sidecar(origin, upstream={"cache": cache, "timeouts": {"total": total}})
    await sidecar.exchange(asking(5000))
    await sidecar.exchange(asking(5000))
    await origin.until(lambda it: len(it.requests) == 2)
    first, refresh = (request.get(FIELD) for request in origin.requests)
    assert int(first or b"") < 5000
    assert int(refresh or b"0") > 3_000_000 if total else refresh is None


# Where no connection stands


async def test_connecting_and_waiting_for_a_connection_take_no_longer_than_the_total(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    pool = {"max_connections": 1, "queue_timeout": "1h"}
    sidecar = await start_sidecar(origin, upstream={"pool": pool, "timeouts": {"total": "200ms"}, "breaker": BREAKER})
    one, other = await sidecar.connect(), await sidecar.connect()
    await one.send((GET + "\r\n").encode())
    await origin.until(lambda it: it.requests)
    async with asyncio.timeout(5):
        await other.send((GET + "\r\n").encode())
        assert (await other.response()).status in {503, 504}
        assert (await one.response()).status == 504


async def test_a_total_shorter_than_connecting_says_so_and_counts(start_sidecar: StartSidecar, blackhole: str) -> None:
    timeouts = {"connect": "1h", "total": "200ms"}
    sidecar = await start_sidecar(blackhole, upstream={"timeouts": timeouts, "breaker": BREAKER})
    async with asyncio.timeout(5):
        answer = await sidecar.get("/")
    assert (answer.status, reason(answer)) == (504, "total_timeout")
    assert await outcomes(sidecar) == {"failure": 1}
