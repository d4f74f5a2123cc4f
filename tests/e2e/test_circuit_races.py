"""The circuit under concurrency, on real sockets: crowds at its edges, and exchanges that end at every point."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.caching_origin import caching_origin, message
from tests.support.origin import CLOSE, GATE, READ, READ_HEAD, RESET, STALL, WELL_BEHAVED, Endlessly, Script
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import StartOrigin
    from tests.support.client import RawClient
    from tests.support.messages import WireRequest
    from tests.support.origin import RawOrigin
    from tests.support.still_sidecar import StillSidecar

BREAKER: dict[str, Any] = {
    "failure_threshold": 1,
    "failure_rate": None,
    "open_duration": "10s",
    "backoff": {"jitter": 0, "max": "1m"},
    "success_threshold": 1,
    "probe_timeout": "1h",
    "slow_after": "1h",
}
BEYOND_BACKOFF = 100.0
GET = b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n"


async def crowd(sidecar: StillSidecar, number: int) -> list[RawClient]:
    """So many connected clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    return [await sidecar.connect() for _ in range(number)]


async def all_ask(clients: Iterable[RawClient]) -> None:
    for client in clients:
        client.transport.write(GET)


async def statuses(clients: Iterable[RawClient]) -> Counter[int]:
    return Counter([(await client.response()).status for client in clients])


async def calls(sidecar: StillSidecar) -> dict[str, float]:
    """How many requests the circuit counts by outcome, those that are there."""
    metrics = await sidecar.metrics()
    outcomes = ("success", "failure", "slow", "throttled", "ignored", "cancelled", "not_sent")
    counts = {outcome: metrics.total("sidecar_circuit_calls_total", outcome=outcome) for outcome in outcomes}
    return {outcome: count for outcome, count in counts.items() if count}


# Crowds


@pytest.mark.parametrize("mode", ["off", "standard"])
@pytest.mark.parametrize("probes", [1, 3])
async def test_at_the_moment_of_expiry_only_the_probes_of_a_thousand_requests_reach_the_upstream(
    probes: int, mode: str
) -> None:
    healthy = False

    def answer(_request: WireRequest) -> bytes | None:
        return None if healthy else message(b"no", status=503)

    breaker = {**BREAKER, "half_open_probes": probes, "success_threshold": probes}
    # Each request for itself: a crowd on one cold key would be one request anyhow.
    blocks = {"breaker": breaker, "cache": {"mode": mode, "collapse": False}}
    async with caching_origin(answer) as origin, still_sidecar(origin.url, upstream=blocks) as sidecar:
        assert (await sidecar.get("/item")).status == 503
        clients = await crowd(sidecar, 1000)
        healthy = True
        sidecar.clock.advance(10)
        await all_ask(clients)
        await eventually(lambda: sum(bool(client.received) for client in clients) == 1000 - probes, within=20)
        await eventually(lambda: len(origin.requests) == 1 + probes)
        assert await sidecar.state() == "half_open"
        refused = [client for client in clients if client.received]
        assert await statuses(refused) == {503: 1000 - probes}
        origin.say(message(b"well"))
        assert await statuses(client for client in clients if client not in refused) == {200: probes}
        assert await sidecar.state() == "closed"
        assert len(origin.requests) == 1 + probes


async def test_at_the_moment_of_expiry_a_thousand_requests_with_a_stale_answer_need_one_probe() -> None:
    stored = message(b"old", "Cache-Control: max-age=1")

    def answer(request: WireRequest) -> bytes | None:
        if request.target == b"/trip":
            return message(b"no", status=503)
        return stored if len(origin.requests) == 1 else None

    async with (
        caching_origin(answer) as origin,
        still_sidecar(origin.url, upstream={"breaker": BREAKER, "cache": {}}) as sidecar,
    ):
        await sidecar.get("/item")
        await sidecar.get("/trip")
        clients = await crowd(sidecar, 1000)
        sidecar.clock.advance(10)
        await all_ask(clients)
        assert await statuses(clients) == {200: 1000}
        await eventually(lambda: len(origin.requests) == 3)
        assert await sidecar.state() == "half_open"
        origin.say(message(b"new", "Cache-Control: max-age=60"))
        assert await sidecar.is_quiet()
        assert await sidecar.state() == "closed"
        assert (await sidecar.get("/item")).body == b"new"
        assert len(origin.requests) == 3


async def test_when_the_probe_fails_the_rest_of_the_crowd_never_reached_the_upstream() -> None:
    async with (
        caching_origin(lambda _: message(b"no", status=503)) as origin,
        still_sidecar(origin.url, upstream={"breaker": BREAKER}) as sidecar,
    ):
        await sidecar.get("/item")
        clients = await crowd(sidecar, 200)
        for reopening in range(1, 4):
            sidecar.clock.advance(BEYOND_BACKOFF)
            await all_ask(clients)
            assert await statuses(clients) == {503: 200}
            assert len(origin.requests) == 1 + reopening
            assert await sidecar.state() == "open"


async def test_a_dead_upstream_is_waited_for_only_by_those_who_came_before_the_trip() -> None:
    async with caching_origin(lambda _: None) as origin:
        breaker = {**BREAKER, "failure_threshold": 5}
        blocks = {"breaker": breaker, "timeouts": {"first_byte": "100ms"}}
        async with still_sidecar(origin.url, upstream=blocks) as sidecar:
            early = await crowd(sidecar, 20)
            await all_ask(early)
            await eventually(lambda: len(origin.requests) == 20)
            sidecar.clock.advance(0.2)
            assert await statuses(early) == {504: 20}
            later = await crowd(sidecar, 480)
            await all_ask(later)
            assert await statuses(later) == {503: 480}
            assert len(origin.requests) == 20
            metrics = await sidecar.metrics()
            events = (await sidecar.api("GET", "/v1/events"))["events"]
    # On the sidecar's clock no time passed for those who came later.
    assert metrics.total("sidecar_request_duration_seconds_sum") == pytest.approx(20 * 0.2)
    assert metrics.total("sidecar_circuit_rejected_total") == 480
    # Twenty failures at once are one transition and one event (breaker.md 6).
    assert metrics.total("sidecar_circuit_transitions_total") == 1
    assert len(events) == 1


async def test_after_forcing_open_nothing_is_admitted() -> None:
    async with (
        caching_origin(lambda _: message(b"ok")) as origin,
        still_sidecar(origin.url, upstream={"breaker": BREAKER}) as sidecar,
    ):
        clients = await crowd(sidecar, 200)
        stop = asyncio.Event()

        async def keep_asking(client: RawClient) -> None:
            while not stop.is_set():
                assert (await client.exchange(GET)).status in {200, 503}

        asking = [asyncio.ensure_future(keep_asking(client)) for client in clients[:20]]
        await eventually(lambda: len(origin.requests) > 100)
        await sidecar.api("PUT", "/v1/circuits/all/override", {"mode": "forced_open", "reason": "test", "actor": "t"})
        assert await sidecar.is_quiet()
        reached = len(origin.requests)
        await all_ask(clients[20:])
        assert await statuses(clients[20:]) == {503: 180}
        stop.set()
        await asyncio.gather(*asking)
        assert len(origin.requests) == reached


# Exchanges that end at every point where somebody waits


@dataclass(frozen=True, slots=True)
class Point:
    """Where an exchange stands still: the upstream's script, what the client sends, and how one sees it is there."""

    script: Script
    sends: bytes = GET
    arrived: int = 0
    """Octets of the answer that the client has by then."""
    reads: bool = True


HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"
POINTS: dict[str, Point] = {
    "no answer": Point((READ, STALL)),
    "in the answer's head": Point((READ, HEAD, STALL)),
    "after an interim answer": Point((READ, b"HTTP/1.1 103 Early Hints\r\n\r\n", STALL), arrived=20),
    "after the answer's head": Point((READ, HEAD + b"Content-Length: 9\r\n\r\n", STALL), arrived=20),
    "in a body": Point((READ, HEAD + b"Content-Length: 9\r\n\r\nhalf", STALL), arrived=20),
    "in a chunk": Point((READ, HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nha", STALL), arrived=20),
    "between chunks": Point((READ, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nha\r\n", STALL), arrived=20),
    "before the last chunk": Point((READ, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", STALL)),
    "in a body until the close": Point((READ, HEAD + b"\r\nhalf", STALL), arrived=20),
    "in the request's body": Point((READ_HEAD, STALL), GET[:-2] + b"Content-Length: 9\r\n\r\nhalf"),
    "in a chunked request": Point((READ_HEAD, STALL), GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n2\r\nha\r\n"),
    "the client does not read": Point(
        (READ, HEAD + b"Content-Length: 900000000\r\n\r\n", Endlessly(b"x" * 65536)), arrived=20, reads=False
    ),
}  # fmt: skip
LIMITS = {"body_timeout": "100ms", "write_timeout": "100ms"}
TIMEOUTS = {"first_byte": "100ms", "idle": "100ms"}


async def half_open(origin: RawOrigin, sidecar: StillSidecar, *scripts: Script) -> None:
    """Trip it, and let the open period pass; the next connection follows the first of the scripts."""
    assert (await sidecar.get("/trip")).status == 502
    origin.then(*scripts)
    sidecar.clock.advance(10)
    assert await sidecar.state() == "open"


async def reach(point: Point, origin: RawOrigin, sidecar: StillSidecar) -> RawClient:
    """Send the probe and wait until it stands at `point`."""
    client = await sidecar.connect()
    await client.send(point.sends)
    await origin.until(lambda origin: len(origin.connections) == 2 and origin.connections[1].received)
    await client.until(lambda: len(client.received) >= point.arrived)
    if not point.reads:
        client.pause()
    assert await sidecar.state() == "half_open"
    assert (await sidecar.get("/other")).status == 503
    return client


def over(sidecar: StillSidecar) -> bool:
    """Let a little time pass, and see whether nothing is in flight."""
    sidecar.clock.advance(0.05)
    return in_flight(sidecar) == 0


@pytest.mark.parametrize("mode", ["off", "standard"])
@pytest.mark.parametrize("ending", ["client", "upstream", "timeout"])
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
async def test_wherever_a_probe_ends_its_permit_comes_back(
    start_origin: StartOrigin, point: Point, ending: str, mode: str
) -> None:
    origin = await start_origin((READ, RESET))
    blocks = {"breaker": BREAKER, "timeouts": TIMEOUTS, "cache": {"mode": mode}}
    async with still_sidecar(origin, upstream=blocks, proxy={"limits": LIMITS}) as sidecar:
        await half_open(origin, sidecar, point.script, WELL_BEHAVED)
        client = await reach(point, origin, sidecar)
        if ending == "client":
            client.reset()
        elif ending == "upstream":
            origin.connections[1].reset()
            client.resume()
        else:
            await eventually(lambda: over(sidecar), every=0.01)
        assert await sidecar.is_quiet()
        if ending == "client":
            assert await calls(sidecar) == {"failure": 1, "cancelled": 1}
        else:
            sidecar.clock.advance(BEYOND_BACKOFF)
        assert (await sidecar.get("/next")).status == 200
        assert await sidecar.state() == "closed"


@pytest.mark.parametrize("ending", ["client", "timeout"])
async def test_a_probe_that_ends_while_connecting_gives_its_permit_back(ending: str) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        timeouts = {"connect": "100ms" if ending == "timeout" else "300ms"}
        async with still_sidecar(url, upstream={"breaker": BREAKER, "timeouts": timeouts}) as sidecar:
            assert (await sidecar.get("/trip")).status == 504
            sidecar.clock.advance(10)
            client = await sidecar.connect()
            await client.send(GET)
            await eventually(lambda: in_flight(sidecar) == 1)
            assert (await sidecar.get("/other")).status == 503
            if ending == "client":
                client.reset()
                await eventually(lambda: in_flight(sidecar) == 0)
            else:
                assert (await client.response()).status == 504
                sidecar.clock.advance(BEYOND_BACKOFF)
            # The next one is a probe again: it is not refused, it fails by itself.
            assert (await sidecar.get("/next")).status == 504


def in_flight(sidecar: StillSidecar) -> int:
    assert sidecar.app is not None
    return sidecar.app.data.routes.stats["all"].in_flight


@pytest.mark.parametrize("ending", ["client", "timeout"])
async def test_a_probe_that_ends_while_it_waits_for_a_connection_gives_its_permit_back(
    start_origin: StartOrigin, ending: str
) -> None:
    origin = await start_origin((READ, RESET), (READ, STALL), WELL_BEHAVED)
    pool = {"max_connections": 1, "queue_timeout": "100ms" if ending == "timeout" else "10s"}
    top = {
        "upstreams": {
            "origin": {"url": origin.url, "breaker": BREAKER, "pool": pool, "cache": {"mode": "off"}, "retry": None}
        },
        "routes": [
            {"name": "busy", "match": {"prefix": "/busy"}, "upstream": "origin"},
            {"name": "all", "match": {"prefix": "/"}, "upstream": "origin"},
        ],
    }
    async with still_sidecar(None, top=top) as sidecar:
        assert (await sidecar.get("/trip")).status == 502
        sidecar.clock.advance(10)
        busy = await sidecar.connect()
        await busy.send(GET.replace(b"/item", b"/busy"))
        await origin.until(lambda origin: len(origin.requests) == 2)
        client = await sidecar.connect()
        await client.send(GET)
        await eventually(lambda: in_flight(sidecar) == 1)
        assert await sidecar.state() == "half_open"
        if ending == "client":
            client.reset()
            await eventually(lambda: in_flight(sidecar) == 0)
        else:
            assert (await client.response()).status == 503
        busy.reset()
        assert await sidecar.is_quiet()
        assert (await sidecar.get("/next")).status == 200
        assert await sidecar.state() == "closed"


@pytest.mark.parametrize("ending", ["leader", "followers", "all", "upstream", "timeout"])
async def test_wherever_a_shared_probe_ends_its_permit_comes_back(start_origin: StartOrigin, ending: str) -> None:
    origin = await start_origin((READ, RESET))
    blocks = {"breaker": BREAKER, "timeouts": TIMEOUTS, "cache": {}}
    async with still_sidecar(origin, upstream=blocks) as sidecar:
        await half_open(origin, sidecar, (READ, GATE, message(b"ok", "Cache-Control: max-age=60")), WELL_BEHAVED)
        clients = await crowd(sidecar, 10)
        await all_ask(clients[:1])
        await origin.until(lambda origin: len(origin.requests) == 2)
        await all_ask(clients[1:])
        leaving = {"leader": clients[:1], "followers": clients[1:], "all": clients}.get(ending, [])
        for client in leaving:
            client.reset()
        await eventually(lambda: in_flight(sidecar) <= 10 - len(leaving))
        if ending in {"leader", "followers"}:
            origin.gate.set()
            assert set(await statuses(client for client in clients if client not in leaving)) <= {200, 503}
            assert await sidecar.state() == "closed"
            return
        if ending == "upstream":
            origin.connections[1].reset()
        elif ending == "timeout":
            sidecar.clock.advance(0.2)
        assert await sidecar.is_quiet()
        sidecar.clock.advance(0 if ending == "all" else BEYOND_BACKOFF)
        assert (await sidecar.get("/next")).status == 200
        assert await sidecar.state() == "closed"


@pytest.mark.parametrize("ending", [RESET, CLOSE, STALL], ids=["reset", "closed", "timeout"])
async def test_a_probe_behind_a_stale_answer_gives_its_permit_back(start_origin: StartOrigin, ending: Any) -> None:
    origin = await start_origin((READ, message(b"old", "Cache-Control: max-age=1"), CLOSE), (READ, RESET))
    blocks = {"breaker": BREAKER, "timeouts": TIMEOUTS, "cache": {}}
    async with still_sidecar(origin, upstream=blocks) as sidecar:
        await sidecar.get("/item")
        assert (await sidecar.get("/trip")).status == 502
        origin.then((READ, ending), WELL_BEHAVED)
        sidecar.clock.advance(10)
        assert (await sidecar.get("/item")).body == b"old"
        await origin.until(lambda origin: len(origin.requests) == 3)
        sidecar.clock.advance(0.2)
        assert await sidecar.is_quiet()
        assert await sidecar.state() == "open"
        sidecar.clock.advance(BEYOND_BACKOFF)
        assert (await sidecar.get("/next")).status == 200
        assert await sidecar.state() == "closed"
