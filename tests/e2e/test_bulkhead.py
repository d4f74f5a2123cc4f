"""Bulkheads through real sockets: who is let in, who waits, who is refused, and that every slot comes back."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, CLOSE, GATE, OK, READ, RESET, STALL, RawOrigin, Script, Slowly
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.client import RawClient
    from tests.support.messages import WireResponse
    from tests.support.running import InProcess

GATED: Script = (READ, GATE, OK, AGAIN)
BREAKER = {"failure_threshold": 1, "open_duration": "1h"}
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
LONG_WAIT = {"max_queue": 10, "queue_timeout": "1h"}


def get(target: str = "/", *lines: str) -> bytes:
    return ("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines]) + "\r\n\r\n").encode()


class Crowd:
    """Clients of one sidecar, each with a connection of its own, and what is known of its bulkhead."""

    def __init__(self, sidecar: InProcess, origin: RawOrigin) -> None:
        self.sidecar = sidecar
        self.origin = origin

    async def ask(self, target: str = "/", *lines: str) -> RawClient:
        client = await self.sidecar.connect()
        await client.send(get(target, *lines))
        return client

    async def fill(self, slots: int) -> list[RawClient]:
        """As many requests as there are slots, all with the origin."""
        clients = [await self.ask(f"/in/{number}") for number in range(slots)]
        await self.origin.until(lambda it: len(it.requests) == slots)
        return clients

    async def gauge(self, name: str, **labels: str) -> float:
        return (await self.sidecar.metrics()).total(f"sidecar_bulkhead_{name}", route="all", **labels)

    async def until_queued(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.gauge("queued") != count:  # noqa: ASYNC110 - nobody tells who begins to wait
                await asyncio.sleep(0.005)

    async def is_empty(self) -> bool:
        """Every slot and every place comes back."""
        assert await self.sidecar.is_quiet()
        await self.until_queued(0)
        return await self.gauge("in_use") == 0

    async def outcomes(self) -> dict[str, float]:
        metrics = await self.sidecar.metrics()
        names = ("success", "failure", "cancelled", "not_sent")
        counts = {name: metrics.total("sidecar_circuit_calls_total", outcome=name) for name in names}
        return {name: count for name, count in counts.items() if count}


async def crowd(
    start_origin: StartOrigin, start_sidecar: StartSidecar, *scripts: Script, bulkhead: dict[str, Any], **more: Any
) -> Crowd:
    origin = await start_origin(*(scripts or (GATED,)))
    return Crowd(await start_sidecar(origin, upstream={"bulkhead": bulkhead, "breaker": BREAKER, **more}), origin)


def reason(answer: WireResponse) -> str:
    return str(json.loads(answer.body)["reason"])


# Slots


async def test_beyond_the_limit_a_request_is_refused_and_counts_against_nobody(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    all_ = await crowd(start_origin, start_sidecar, bulkhead={"max_concurrent": 2})
    inside = await all_.fill(2)
    answer = await all_.sidecar.get("/more")
    assert (answer.status, reason(answer)) == (503, "bulkhead_full")
    assert answer.get("proxy-status") == b'sidecar; error=connection_limit_reached; details="the bulkhead is full"'
    assert answer.get("retry-after") == b"1"
    assert [await all_.gauge(name) for name in ("in_use", "limit", "queued")] == [2, 2, 0]
    all_.origin.gate.set()
    assert [(await client.response()).status for client in inside] == [200, 200]
    assert await all_.is_empty()
    assert await all_.outcomes() == {"success": 2}
    metrics = await all_.sidecar.metrics()
    assert metrics.total("sidecar_bulkhead_rejected_total", **{"class": "normal"}) == 1
    assert metrics.total("sidecar_requests_total", code="503", source="bulkhead") == 1


async def test_every_series_is_there_at_0_and_none_without_a_bulkhead(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    all_ = await crowd(start_origin, start_sidecar, bulkhead={"max_concurrent": 2})
    samples = (await all_.sidecar.metrics()).samples
    shown = {(name, *sorted(labels)): value for (name, labels), value in samples.items() if "bulkhead" in name}
    route = ("route", "all")
    low, normal = ("class", "low"), ("class", "normal")
    assert shown == {
        ("sidecar_bulkhead_in_use", route): 0,
        ("sidecar_bulkhead_limit", route): 2,
        ("sidecar_bulkhead_queued", route): 0,
        ("sidecar_bulkhead_rejected_total", low, route): 0,
        ("sidecar_bulkhead_rejected_total", normal, route): 0,
        ("sidecar_bulkhead_rejected_observed_total", low, route): 0,
        ("sidecar_bulkhead_rejected_observed_total", normal, route): 0,
    }
    refused = [
        labels for name, labels in samples if name == "sidecar_requests_total" and ("source", "bulkhead") in labels
    ]
    assert len(refused) == 2
    without = await start_sidecar(all_.origin)
    assert not [name for name, _ in (await without.metrics()).samples if "bulkhead" in name]


ENDINGS: dict[str, tuple[Script, list[str]]] = {
    "a whole body": ((READ, OK, AGAIN), []),
    "a body in pieces": ((READ, HALF, Slowly(b"half"), AGAIN), []),
    "a failing status": ((READ, b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", AGAIN), []),
    "a reset": ((READ, RESET), []),
    "a body that is cut short": ((READ, HALF, RESET), []),
    "nonsense": ((READ, b"nonsense\r\n\r\n", CLOSE), []),
    "a timeout": ((READ, STALL), []),
    "a deadline": ((READ, STALL), ["x-request-timeout-ms: 100"]),
    "a deadline within the body": ((READ, HALF, STALL), ["x-request-timeout-ms: 100"]),
    "a tunnel": ((READ, SWITCHED, CLOSE), ["Connection: Upgrade", "Upgrade: x"]),
}


@pytest.mark.parametrize(("script", "lines"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("cache", ["off", "standard"])
@pytest.mark.parametrize("bulkhead", [{}, {"adaptive": True}, {"observe": True}], ids=["plain", "adaptive", "observe"])
async def test_a_slot_comes_back_however_a_request_ends(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    script: Script,
    lines: list[str],
    cache: str,
    bulkhead: dict[str, Any],
) -> None:
    blocks = {"cache": {"mode": cache}, "timeouts": {"first_byte": "300ms"}}
    all_ = await crowd(start_origin, start_sidecar, script, bulkhead={"max_concurrent": 2, **bulkhead}, **blocks)
    client = await all_.ask("/", *lines, "X-Other: 1")
    await client.until_more()
    if "tunnel" not in str(lines) and b"half" in client.received:
        await client.until(lambda: client.ended or b"halfhalf" in client.received)
    client.reset()
    assert await all_.is_empty()


@pytest.mark.parametrize("script", [(READ, STALL), (READ, HALF, STALL)], ids=["before the answer", "within it"])
@pytest.mark.parametrize("cache", ["off", "standard"])
async def test_a_client_that_leaves_gives_its_slot_to_who_waits(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script, cache: str
) -> None:
    bulkhead = {"max_concurrent": 1, **LONG_WAIT}
    blocks = {"cache": {"mode": cache}}
    all_ = await crowd(start_origin, start_sidecar, script, (READ, OK, AGAIN), bulkhead=bulkhead, **blocks)
    (first,) = await all_.fill(1)
    second = await all_.ask("/second")
    await all_.until_queued(1)
    first.reset()
    assert (await second.response()).status == 200
    assert await all_.is_empty()


async def test_a_slot_is_held_until_the_body_ends(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    script = (READ, HALF, GATE, b"half", AGAIN)
    all_ = await crowd(start_origin, start_sidecar, script, bulkhead={"max_concurrent": 1})
    client = await all_.ask()
    await client.until(lambda: b"half" in client.received)
    assert (await all_.sidecar.get("/more")).status == 503
    all_.origin.gate.set()
    assert (await client.response()).body == b"halfhalf"
    assert await all_.is_empty()
    assert (await all_.sidecar.get("/more")).status == 200


async def test_what_the_cache_answers_takes_no_slot(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    fresh = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
    blocks = {"cache": {"mode": "standard"}}
    scripts = ((READ, fresh, READ, GATE, fresh, AGAIN),)
    all_ = await crowd(start_origin, start_sidecar, *scripts, bulkhead={"max_concurrent": 1}, **blocks)
    await all_.sidecar.get("/stored")
    busy = await all_.ask("/busy")
    await all_.origin.until(lambda it: len(it.requests) == 2)
    assert (await all_.sidecar.get("/stored")).status == 200
    assert (await all_.sidecar.get("/other")).status == 503
    all_.origin.gate.set()
    assert (await busy.response()).status == 200


async def test_a_full_bulkhead_is_answered_with_what_is_stale(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    stored = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 2\r\n\r\nok"
    blocks = {"cache": {"mode": "standard", "stale_ttl": "1h"}}
    scripts = ((READ, stored, READ, GATE, stored, AGAIN),)
    all_ = await crowd(start_origin, start_sidecar, *scripts, bulkhead={"max_concurrent": 1}, **blocks)
    await all_.sidecar.get("/stored")
    busy = await all_.ask("/busy")
    await all_.origin.until(lambda it: len(it.requests) == 2)
    answer = await all_.sidecar.get("/stored")
    assert (answer.status, answer.body) == (200, b"ok")
    assert (answer.get("cache-status") or b"").endswith(b"; detail=bulkhead_full")
    metrics = await all_.sidecar.metrics()
    assert metrics.total("sidecar_requests_total", source="stale", code="200") == 1
    assert metrics.total("sidecar_bulkhead_rejected_total") == 1
    all_.origin.gate.set()
    assert (await busy.response()).status == 200


# The queue


async def test_who_waits_is_served_in_turn(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    all_ = await crowd(start_origin, start_sidecar, bulkhead={"max_concurrent": 1, **LONG_WAIT})
    await all_.fill(1)
    clients = []
    for number in range(5):
        clients.append(await all_.ask(f"/{number}"))
        await all_.until_queued(number + 1)
    all_.origin.gate.set()
    assert [(await client.response()).status for client in clients] == [200] * 5
    assert [line.rsplit("/", 1)[1] for line in all_.origin.lines[1:]] == list("01234")
    assert await all_.is_empty()


async def test_who_waits_too_long_is_refused(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "50ms"}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    await all_.fill(1)
    answer = await all_.sidecar.get("/late")
    assert (answer.status, answer.get("retry-after")) == (503, b"1")
    assert "queue_timeout" in json.loads(answer.body)["detail"]
    assert await all_.gauge("queued") == 0


@pytest.mark.parametrize(("total", "lines"), [(None, ["x-request-timeout-ms: 100"]), ("100ms", [])])
async def test_who_waits_past_its_deadline_is_told_so(
    start_origin: StartOrigin, start_sidecar: StartSidecar, total: str | None, lines: list[str]
) -> None:
    blocks = {"timeouts": {"total": total}, "breaker": {"mode": "off"}}
    all_ = await crowd(start_origin, start_sidecar, bulkhead={"max_concurrent": 1, **LONG_WAIT}, **blocks)
    client = await all_.ask("/upload", "x-request-timeout-ms: 60000") if total is None else await all_.ask()
    await all_.origin.until(lambda it: it.requests)
    async with asyncio.timeout(5):
        answer = await all_.sidecar.get("/late", *lines)
    if total is None:
        assert (answer.status, reason(answer)) == (504, "deadline_exceeded")
        assert await all_.gauge("rejected_total") == 0
    else:
        # The first one's total frees the slot at about the same time.
        assert answer.status == 504
    client.reset()
    assert await all_.is_empty()


async def test_a_full_queue_refuses_at_once(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "1h"}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    await all_.fill(1)
    waiting = await all_.ask("/waits")
    await all_.until_queued(1)
    assert (await all_.sidecar.get("/more")).status == 503
    all_.origin.gate.set()
    assert (await waiting.response()).status == 200


async def test_a_waiting_client_that_leaves_frees_its_place(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "1h"}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    await all_.fill(1)
    leaver = await all_.ask("/leaves")
    await all_.until_queued(1)
    leaver.reset()
    await all_.until_queued(0)
    stayer = await all_.ask("/stays")
    await all_.until_queued(1)
    all_.origin.gate.set()
    assert (await stayer.response()).status == 200
    assert all_.origin.lines == ["GET /in/0", "GET /stays"]
    assert await all_.is_empty()


# Priority

PRIORITY = {"priority": {"header": "x-priority", "low": ["batch"]}}


async def test_a_queue_full_of_low_ones_lets_others_in_and_sheds_a_low_one(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 2, "queue_timeout": "1h", **PRIORITY}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    await all_.fill(1)
    low = []
    for number in range(2):
        low.append(await all_.ask(f"/low/{number}", "X-Priority: batch"))
        await all_.until_queued(number + 1)
    assert (await all_.sidecar.get("/low/2", "X-Priority: batch")).status == 503
    normal = await all_.ask("/normal", "X-Priority: anything")
    shed = await low[1].response()
    assert (shed.status, reason(shed), shed.get("retry-after")) == (503, "bulkhead_full", b"1")
    all_.origin.gate.set()
    assert (await normal.response()).status == (await low[0].response()).status == 200
    assert all_.origin.lines == ["GET /in/0", "GET /normal", "GET /low/0"]
    assert await all_.gauge("rejected_total", **{"class": "low"}) == 2
    assert await all_.gauge("rejected_total", **{"class": "normal"}) == 0
    assert await all_.is_empty()


# Observing


async def test_one_that_observes_refuses_nothing_and_counts_what_it_would_have(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "20ms", "observe": True, **PRIORITY}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    clients = await all_.fill(2)
    clients.append(await all_.ask("/low", "x-priority: batch"))
    await all_.origin.until(lambda it: len(it.requests) == 3)
    assert await all_.gauge("rejected_observed_total", **{"class": "low"}) == 1
    # The second would have waited, and in vain.
    await asyncio.sleep(0.03)
    all_.origin.gate.set()
    assert {(await client.response()).status for client in clients} == {200}
    assert await all_.is_empty()
    assert await all_.gauge("rejected_observed_total", **{"class": "normal"}) == 1
    assert await all_.gauge("rejected_total") == 0


async def test_who_would_have_had_a_slot_in_time_is_not_counted(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    bulkhead = {"max_concurrent": 1, "max_queue": 5, "queue_timeout": "1h", "observe": True}
    all_ = await crowd(start_origin, start_sidecar, bulkhead=bulkhead)
    clients = await all_.fill(4)
    all_.origin.gate.set()
    assert {(await client.response()).status for client in clients} == {200}
    assert await all_.is_empty()
    assert await all_.gauge("rejected_observed_total") == 0


# Adapting


async def test_the_limit_follows_the_latency_and_upstreams_explain_it(
    start_origin: StartOrigin, start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.core.adaptive_limit.AdaptiveLimit.INTERVAL", 0.05)
    quick: Script = (READ, Slowly(OK, 0.0001), AGAIN)
    slow: Script = (READ, Slowly(OK, 0.004), AGAIN)
    # Retries see to it that a connection that the origin closes here fails no request.
    limit = {"max_concurrent": 16, "adaptive": True}
    all_ = await crowd(start_origin, start_sidecar, quick, bulkhead=limit, retry={"attempts": 2})
    client = await all_.sidecar.connect()

    async def ask_until(done: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():
                assert (await client.exchange(get())).status == 200

    bulkhead = all_.sidecar.app.data.routes.stats["all"].bulkhead  # type: ignore[union-attr]  # it runs
    assert bulkhead is not None
    assert bulkhead.adaptive is not None
    adaptive = bulkhead.adaptive
    await ask_until(lambda: adaptive.latency)
    assert bulkhead.limit == 16
    all_.origin.then(slow)
    all_.origin.connections[0].close()
    await ask_until(lambda: bulkhead.limit <= 12)
    assert await all_.gauge("limit") == bulkhead.limit
    (upstream,) = (await all_.sidecar.api("GET", "/v1/upstreams"))["upstreams"]
    (shown,) = upstream["bulkheads"]
    assert (shown["route"], shown["adaptive"], shown["limit"]) == ("all", True, bulkhead.limit)
    assert shown["latency"] > 2 * shown["no_load_latency"] > 0
    assert shown["detail"].startswith(f"{bulkhead.limit} of 16: the median answer takes ")
    all_.origin.then(quick)
    all_.origin.connections[-1].close()
    await ask_until(lambda: bulkhead.limit == 16)


async def test_the_limit_falls_although_nothing_comes_and_nothing_ends(
    start_origin: StartOrigin, start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.core.adaptive_limit.AdaptiveLimit.INTERVAL", 0.02)
    monkeypatch.setattr("sidecar.core.adaptive_limit.PATIENCE", 0.1)
    scripts: tuple[Script, ...] = ((READ, OK, READ, STALL), (READ, STALL))
    all_ = await crowd(start_origin, start_sidecar, *scripts, bulkhead={"max_concurrent": 8, "adaptive": True})
    await all_.sidecar.get("/quick")
    assert await all_.sidecar.is_quiet()
    clients = [await all_.ask(f"/{number}") for number in range(8)]
    async with asyncio.timeout(PATIENCE):
        while await all_.gauge("limit") > 4:  # noqa: ASYNC110 - nobody tells when a limit changes
            await asyncio.sleep(0.005)
    assert await all_.gauge("in_use") == 8
    for client in clients:
        client.reset()
    assert await all_.is_empty()


async def test_upstreams_show_a_bulkhead_that_does_not_adapt(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    all_ = await crowd(start_origin, start_sidecar, bulkhead={"max_concurrent": 3})
    (upstream,) = (await all_.sidecar.api("GET", "/v1/upstreams"))["upstreams"]
    assert upstream["bulkheads"] == [
        {
            "route": "all",
            "adaptive": False,
            "limit": 3,
            "in_use": 0,
            "queued": 0,
            "latency": None,
            "no_load_latency": None,
            "detail": "max_concurrent is 3",
        }
    ]


# Reloading


@pytest.mark.parametrize("changed", [False, True], ids=["another route changes", "the route itself changes"])
async def test_a_reload_keeps_who_is_in_and_who_waits(
    start_origin: StartOrigin,
    tmp_path: Path,
    changed: bool,  # noqa: FBT001 - a case
) -> None:
    origin = await start_origin(GATED)

    def text(timeout: str, other: str) -> str:
        limited = {"max_concurrent": 1, **LONG_WAIT}
        return written(
            {
                "all": {
                    "url": origin.url,
                    "cache": {"mode": "off"},
                    "bulkhead": limited,
                    "timeouts": {"first_byte": timeout},
                },
                "other": {"url": origin.url, "timeouts": {"first_byte": other}},
            }
        )

    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", text("15s", "15s"))
    all_ = Crowd(sidecar, origin)
    try:
        inside = await all_.ask("/all/in")
        await origin.until(lambda it: it.requests)
        waiting = await all_.ask("/all/waits")
        await all_.until_queued(1)
        await sidecar.reload(text("14s", "15s") if changed else text("15s", "14s"))
        newcomer = await all_.ask("/all/new")
        await all_.until_queued(2)
        assert await all_.gauge("in_use") == 1
        origin.gate.set()
        assert {(await client.response()).status for client in (inside, waiting, newcomer)} == {200}
        assert origin.lines == ["GET /in", "GET /waits", "GET /new"]
        assert await all_.is_empty()
    finally:
        sidecar.hang_up()
        await sidecar.stop()


@pytest.mark.parametrize("adaptive", [False, True])
async def test_a_bulkhead_that_a_reload_takes_away_keeps_nobody_waiting(
    start_origin: StartOrigin, tmp_path: Path, *, adaptive: bool
) -> None:
    origin = await start_origin(GATED)

    def text(limits: dict[str, Any] | None) -> str:
        return written({"all": {"url": origin.url, "cache": {"mode": "off"}, "bulkhead": limits}})

    limits = {"max_concurrent": 1, "adaptive": adaptive, **LONG_WAIT}
    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", text(limits))
    all_ = Crowd(sidecar, origin)
    try:
        clients = [await all_.ask("/all/1")]
        await origin.until(lambda it: it.requests)
        clients += [await all_.ask(f"/all/{number}") for number in (2, 3)]
        await all_.until_queued(2)
        await sidecar.reload(text(None))
        await origin.until(lambda it: len(it.requests) == 3)
        origin.gate.set()
        assert {(await client.response()).status for client in clients} == {200}
    finally:
        sidecar.hang_up()
        await sidecar.stop()
