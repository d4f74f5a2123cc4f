"""Faults injected on purpose, by the configuration and by the admin API: what clients get, and every signal of it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, KeptLines, written
from tests.support.origin import AGAIN, OK, READ, STALL, RawOrigin
from tests.support.running import parse_metrics
from tests.support.wire import Ending, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.origin import Script
    from tests.support.running import Metrics

GET = b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n"
ABORT: dict[str, Any] = {"abort": {"status": 503}, "ttl": "5m", "in_windows": False}
FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"


class Scene:
    def __init__(self, sidecar: Configured, origin: RawOrigin, log: KeptLines) -> None:
        self.sidecar = sidecar
        self.origin = origin
        self._log = log

    def logged(self) -> dict[str, Any]:
        """The last line of the access log."""
        self.sidecar.running.data.flush()
        return self._log.lines[-1]

    async def inject(self, body: object) -> Any:
        """What is told of the fault that is in force now."""
        status, shown = await self.put(body)
        assert status == 200, shown
        return shown

    async def put(self, body: object, route: str = "shop") -> tuple[int, Any]:
        return await self.sidecar.call("PUT", f"/v1/faults/{route}", body)

    async def listed(self) -> list[dict[str, Any]]:
        status, shown = await self.sidecar.call("GET", "/v1/faults")
        assert status == 200
        return list(shown["faults"])

    async def events(self) -> list[dict[str, Any]]:
        _, shown = await self.sidecar.call("GET", "/v1/events")
        return [one for one in shown["events"] if one["kind"] == "fault"]

    async def metrics(self) -> Metrics:
        _, text = await self.sidecar.call("GET", "/metrics", listener="telemetry")
        return parse_metrics(text)

    async def injected(self, kind: str) -> float:
        return (await self.metrics()).total("sidecar_faults_injected_total", route="shop", kind=kind)


@asynccontextmanager
async def scene(folder: Path, script: Script = (READ, OK, AGAIN), **settings: Any) -> AsyncIterator[Scene]:
    origin = RawOrigin(script)
    await origin.start()
    upstream = {"url": origin.url, "cache": {"mode": "off"}, "breaker": {"failure_threshold": 3}, **settings}
    log = KeptLines()
    sidecar = await Configured.begin(folder / "sidecar.yaml", written({"shop": upstream}), log)  # type: ignore[arg-type]
    try:
        yield Scene(sidecar, origin, log)
    finally:
        sidecar.hang_up()
        assert await sidecar.is_quiet()
        await sidecar.stop()
        await origin.stop()


async def test_an_abort_answers_with_its_status_and_tells_every_signal(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        for kind in ("abort", "delay", "reset", "slow_body"):
            found = (await it.metrics()).samples
            key = "sidecar_faults_injected_total", frozenset({("route", "shop"), ("kind", kind)})
            assert found[key] == 0
        shown = await it.inject({"abort": {"status": 418}, "ttl": "5m", "actor": "ann", "reason": "drill"})
        counted = (
            "sidecar_requests_total",
            frozenset({("route", "shop"), ("method", "GET"), ("code", "418"), ("source", "fault")}),
        )
        assert (await it.metrics()).samples[counted] == 0
        assert (shown["route"], shown["abort"]) == ("shop", {"status": 418, "share": 1.0})
        assert 299 < shown["seconds_left"] <= 300
        answer = await it.sidecar.get("/shop/1")
        assert answer.status == 418
        assert answer.get("proxy-status") == b'sidecar; error=proxy_internal_response; details="injected fault: abort"'
        assert answer.get("content-type") == b"application/problem+json"
        assert b'"reason": "fault_abort"' in answer.body
        assert it.origin.connections == []
        seen = await it.metrics()
        assert seen.total("sidecar_faults_injected_total", route="shop", kind="abort") == 1
        assert seen.total("sidecar_requests_total", route="shop", code="418", source="fault") == 1
        line = it.logged()
        assert (line["source"], line["status"], line["reason"]) == ("fault", 418, "fault_abort")
        (event,) = await it.events()
        assert (event["circuit"], event["details"]["action"], event["details"]["actor"]) == ("shop", "set", "ann")
        assert event["message"].endswith("abort 418 (100%); set for 300s by ann: drill")


async def test_aborts_open_the_circuit_which_then_refuses_and_probes_meet_the_fault(tmp_path: Path) -> None:
    breaker = {"failure_threshold": 3, "open_duration": "100ms", "backoff": {"jitter": "0%"}}
    async with scene(tmp_path, breaker=breaker) as it:
        await it.inject({"abort": {"status": 503}, "ttl": "5m"})
        answers = [await it.sidecar.get("/shop/1") for _ in range(4)]
        assert [b"circuit_open" in one.body for one in answers] == [False, False, False, True]
        _, circuit = await it.sidecar.call("GET", "/v1/circuits/shop")
        assert {sample["error"] for sample in circuit["trip"]["samples"]} == {"fault_abort"}
        await eventually_probing(it)
        assert b"fault_abort" in (await it.sidecar.get("/shop/1")).body
        _, circuit = await it.sidecar.call("GET", "/v1/circuits/shop")
        assert circuit["last_probe"]["error"] == "fault_abort"
        assert it.origin.connections == []
        await it.sidecar.call("DELETE", "/v1/faults/shop")
        await eventually_probing(it)
        assert (await it.sidecar.get("/shop/1")).status == 200


async def eventually_probing(it: Scene) -> None:
    circuit = it.sidecar.running.data.routes.circuits["shop"]
    await eventually(lambda: circuit.probing(it.sidecar.running.runtime.clock.monotonic()))


async def test_aborts_stay_out_of_the_windows_where_that_is_said(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject(ABORT)
        assert [(await it.sidecar.get("/shop/1")).status for _ in range(6)] == [503] * 6
        assert await it.sidecar.state_of("shop") == "closed"
        assert (await it.metrics()).total("sidecar_circuit_calls_total", circuit="shop") == 0


async def test_a_fault_hits_a_hit(tmp_path: Path) -> None:
    async with scene(tmp_path, (READ, FRESH, AGAIN), cache={"mode": "standard"}) as it:
        assert [(await it.sidecar.get("/shop/1")).status for _ in range(2)] == [200, 200]
        await it.inject(ABORT)
        assert (await it.sidecar.get("/shop/1")).status == 503
        await it.sidecar.call("DELETE", "/v1/faults/shop")
        assert b"hit" in ((await it.sidecar.get("/shop/1")).get("cache-status") or b"")
        assert len(it.origin.requests) == 1


async def test_what_the_circuit_refuses_meanwhile_goes_on_to_what_is_stored(tmp_path: Path) -> None:
    async with scene(tmp_path, (READ, FRESH, AGAIN), cache={"mode": "standard"}) as it:
        await it.sidecar.get("/shop/1")
        await it.inject({"abort": {"status": 503}, "ttl": "5m"})
        assert [(await it.sidecar.get("/shop/1")).status for _ in range(4)] == [503, 503, 503, 200]
        assert await it.sidecar.state_of("shop") == "open"
        assert await it.injected("abort") == 3


@pytest.mark.parametrize(("status", "shown"), [(503, b"static"), (418, None)])
async def test_a_fallback_stands_in_for_an_abort_whose_status_is_a_failure(
    tmp_path: Path, status: int, shown: bytes | None
) -> None:
    async with scene(tmp_path, fallback={"status": 200, "body": "calm"}) as it:
        await it.inject({**ABORT, "abort": {"status": status}})
        answer = await it.sidecar.get("/shop/1")
        assert (answer.status, answer.get("x-sidecar-fallback")) == (200 if shown else status, shown)
        assert b"fault" in (answer.get("proxy-status") or b"")


async def test_a_share_hits_about_so_many(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject({**ABORT, "abort": {"status": 503, "share": 0.5}})
        client = await it.sidecar.connect()
        aborted = sum([(await client.exchange(GET)).status == 503 for _ in range(400)])
        # Six standard deviations.
        assert 140 < aborted < 260
        assert await it.injected("abort") == aborted


MATCHING = {
    "the method and the header": ("POST", "x-drill: on", True),
    "another method": ("GET", "x-drill: on", False),
    "another value": ("POST", "x-drill: off", False),
    "no header": ("POST", "x-other: on", False),
}


@pytest.mark.parametrize(("method", "line", "hit"), MATCHING.values(), ids=MATCHING)
async def test_only_what_matches_is_hit(tmp_path: Path, method: str, line: str, hit: object) -> None:
    async with scene(tmp_path) as it:
        shown = await it.inject(
            {**ABORT, "match": {"methods": ["POST"], "headers": {"X-Drill": "on", "X-Token": None}}}
        )
        assert shown["match"] == {"methods": ["POST"], "headers": {"x-drill": "on", "x-token": None}}
        shown = await it.inject({**ABORT, "match": {"methods": ["POST"], "headers": {"X-Drill": "on"}}})
        asked = f"{method} /shop/1 HTTP/1.1\r\nHost: a\r\n{line}\r\nContent-Length: 0\r\n\r\n"
        assert (await it.sidecar.exchange(asked.encode())).status == (503 if hit else 200)


async def test_a_delay_waits_and_the_answer_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject({"delay": {"duration": "80ms"}, "ttl": "5m"})
        began = asyncio.get_running_loop().time()
        answer = await it.sidecar.get("/shop/1")
        assert asyncio.get_running_loop().time() - began >= 0.08
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.get("proxy-status") == b'sidecar; details="injected fault: delay 0.08 s"'
        assert await it.injected("delay") == 1
        line = it.logged()
        assert (line["source"], line["detail"]) == ("upstream", "injected fault: delay 0.08 s")


async def test_a_delayed_request_ends_at_once_when_its_client_leaves(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject({"delay": {"duration": "1h"}, "ttl": "5m"})
        client = await it.sidecar.connect()
        await client.send(GET)
        stats = it.sidecar.running.data.routes.stats["shop"]
        await eventually(lambda: stats.in_flight == 1)
        client.reset()
        await eventually(lambda: stats.in_flight == 0)
        assert it.origin.connections == []


@pytest.mark.parametrize("in_windows", [True, False])
async def test_a_delay_lasts_no_longer_than_the_route_allows(tmp_path: Path, *, in_windows: bool) -> None:
    async with scene(tmp_path, timeouts={"total": "200ms"}) as it:
        await it.inject({"delay": {"duration": "60s"}, "ttl": "5m", "in_windows": in_windows})
        assert (await it.metrics()).total("sidecar_requests_total", route="shop", code="504", source="fault") == 0
        for _ in range(3):
            answer = await it.sidecar.get("/shop/1")
            assert (answer.status, json.loads(answer.body)["reason"]) == (504, "fault_delay")
            assert b"injected fault: delay" in (answer.get("proxy-status") or b"")
        assert (it.logged()["source"], it.logged()["attempts"]) == ("fault", 0)
        seen = await it.metrics()
        assert seen.total("sidecar_requests_total", route="shop", code="504", source="fault") == 3
        assert seen.total("sidecar_deadline_exceeded_total", route="shop") == 3
        # The circuit learns as from an upstream that takes too long, or nothing.
        assert seen.total("sidecar_circuit_calls_total", outcome="failure") == 3 * in_windows
        assert await it.sidecar.state_of("shop") == ("open" if in_windows else "closed")
        assert not it.origin.requests


async def test_a_delay_past_the_clients_deadline_counts_against_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, timeouts={"total": "5s"}) as it:
        await it.inject({"delay": {"duration": "60s"}, "ttl": "5m"})
        for _ in range(20):
            answer = await it.sidecar.get("/shop/1", "X-Request-Timeout-Ms: 7")
            assert json.loads(answer.body)["reason"] == "deadline_exceeded"
        assert (await it.metrics()).total("sidecar_circuit_calls_total", outcome="failure") == 0


@pytest.mark.parametrize("fallback", [None, {"status": 200}], ids=["alone", "with a fallback"])
async def test_a_reset_ends_the_connection_without_an_octet(tmp_path: Path, fallback: object) -> None:
    async with scene(tmp_path, fallback=fallback) as it:
        await it.inject({"reset": {}, "ttl": "5m"})
        client = await it.sidecar.connect()
        await client.send(GET)
        await client.until(lambda: client.ended)
        assert (client.ended, bytes(client.received)) == (Ending.RESET, b"")
        assert await it.injected("reset") == 1
        line = it.logged()
        assert (line["source"], line["reason"], line["aborted"]) == ("fault", "fault_reset", True)
        seen = await it.metrics()
        assert seen.total("sidecar_requests_total", route="shop", source="fault") == 1
        assert seen.total("sidecar_requests_in_flight") == 0


SLOW = {
    "all there": (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20, b"20"),
    "chunked": (CHUNKED, None),
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
async def test_a_slow_body_trickles_and_is_whole(tmp_path: Path, sent: tuple[bytes, bytes | None]) -> None:
    async with scene(tmp_path, (READ, sent[0], AGAIN)) as it:
        await it.inject({"slow_body": {"rate": 100}, "ttl": "5m"})
        client = await it.sidecar.connect()
        began = asyncio.get_running_loop().time()
        answer = await client.exchange(GET)
        assert asyncio.get_running_loop().time() - began >= 0.19
        assert (answer.status, answer.body) == (200, b"x" * 20)
        assert b"slow_body 100 bytes/s" in (answer.get("proxy-status") or b"")
        assert (await client.exchange(b"HEAD /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")).status == 200
        assert await it.injected("slow_body") == 1


async def test_a_client_that_leaves_a_slow_body_leaves_nothing_behind(tmp_path: Path) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 20
    async with scene(tmp_path, (READ, begun, STALL)) as it:
        await it.inject({"slow_body": {"rate": 1}, "ttl": "5m"})
        client = await it.sidecar.connect()
        await client.send(GET)
        await client.head()
        client.reset()
        await it.origin.ended()
        assert await it.sidecar.is_quiet()


async def test_a_fault_ends_by_itself(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject({**ABORT, "ttl": "100ms", "actor": "ann"})
        assert (await it.sidecar.get("/shop/1")).status == 503
        fault = it.sidecar.running.data.routes.faults["shop"]
        clock = it.sidecar.running.runtime.clock
        active = fault.current
        assert active is not None
        await eventually(lambda: clock.monotonic() >= active.ends_at)
        assert (await it.sidecar.get("/shop/1")).status == 200
        assert await it.listed() == []
        assert [one["details"]["action"] for one in await it.events()] == ["set", "expired"]


async def test_the_end_of_a_fault_is_told_without_a_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject({**ABORT, "ttl": "10ms"})
        fault = it.sidecar.running.data.routes.faults["shop"]
        await eventually(lambda: fault.current is None)
        assert [one["details"]["action"] for one in await it.events()] == ["set", "expired"]


async def test_put_replaces_the_whole_and_delete_ends_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject(ABORT)
        await it.inject({"delay": {"duration": "1ms"}, "ttl": "1m"})
        (shown,) = await it.listed()
        assert "abort" not in shown
        assert shown["delay"] == {"duration": 0.001, "share": 1.0}
        assert shown["in_windows"] is True
        assert (await it.sidecar.get("/shop/1")).status == 200
        assert await it.sidecar.call("DELETE", "/v1/faults/shop", {"actor": "bob", "reason": "done"}) == (
            200,
            {"route": "shop", "ended": True},
        )
        assert await it.listed() == []
        assert (await it.events())[-1]["message"].endswith("ended by bob: done")
        # Nothing to end is no error: it does not hold, as was asked for.
        assert await it.sidecar.call("DELETE", "/v1/faults/shop") == (200, {"route": "shop", "ended": False})


async def test_a_configured_fault_is_listed_and_stays_ended_until_the_file_says_another(tmp_path: Path) -> None:
    async with scene(tmp_path, fault=ABORT) as it:
        (shown,) = await it.listed()
        assert (shown["route"], shown["actor"]) == ("shop", "configuration")
        _, effective = await it.sidecar.call("GET", "/v1/routes")
        assert effective["routes"][0]["fault"]["abort"] == {"status": 503, "share": 1.0}
        _, explained = await it.sidecar.call("GET", "/v1/explain?url=/shop/1")
        assert {"name": "fault.abort.status", "value": 503}.items() <= next(
            one for one in explained["settings"] if one["name"] == "fault.abort.status"
        ).items()
        assert 299 < shown["seconds_left"] <= 300
        assert (await it.sidecar.get("/shop/1")).status == 503
        assert (await it.events())[0]["details"]["action"] == "set"
        await it.sidecar.call("DELETE", "/v1/faults/shop")
        assert (await it.sidecar.get("/shop/1")).status == 200
        assert it.sidecar.file is not None
        text = it.sidecar.file.read_text()
        await it.sidecar.reload(text)
        assert (await it.sidecar.get("/shop/1")).status == 200
        await it.sidecar.reload(text.replace('"status": 503', '"status": 504'))
        assert (await it.sidecar.get("/shop/1")).status == 504
        without = json.loads(text)
        del without["upstreams"]["shop"]["fault"]
        await it.sidecar.reload(json.dumps(without))
        assert (await it.sidecar.get("/shop/1")).status == 200
        assert (await it.events())[-1]["details"]["reason"] == "the configuration has it no more"


async def test_an_injected_fault_goes_on_over_a_reload_and_ends_with_its_route(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.inject(ABORT)
        assert it.sidecar.file is not None
        text = it.sidecar.file.read_text()
        await it.sidecar.reload(text.replace('"failure_threshold": 3', '"failure_threshold": 4'))
        assert (await it.sidecar.get("/shop/1")).status == 503
        await it.sidecar.reload(text.replace('"shop"', '"store"'))
        assert await it.listed() == []
        assert (await it.events())[-1]["details"]["reason"] == "the route is gone"


async def test_nobody_injects_while_the_circuit_is_really_open_unless_forced(tmp_path: Path) -> None:
    sick = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
    async with scene(tmp_path, (READ, sick, AGAIN)) as it:
        for _ in range(3):
            await it.sidecar.get("/shop/1")
        status, problem = await it.put(ABORT)
        assert (status, problem["reason"]) == (409, "circuit_not_closed")
        assert await it.listed() == []
        await it.inject({**ABORT, "force": True})
        assert len(await it.listed()) == 1


async def test_an_operators_forced_open_is_no_outage(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.sidecar.call("PUT", "/v1/circuits/shop/override", {"mode": "forced_open"})
        await it.inject(ABORT)


async def test_an_unknown_route_is_not_found_with_what_was_meant(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        status, problem = await it.put(ABORT, "shpo")
        assert (status, "did you mean 'shop'?" in problem["detail"]) == (404, True)
        assert (await it.sidecar.call("DELETE", "/v1/faults/shpo"))[0] == 404
        assert (await it.sidecar.call("GET", "/v1/faults/shop"))[0] == 405


async def test_numbers_are_numbers(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        shown = await it.inject(
            {"abort": {"status": 503, "share": 1}, "delay": {"duration": "1ms", "share": 1e-3}, "ttl": "5m"}
        )
        assert (shown["abort"]["share"], shown["delay"]["share"]) == (1.0, 0.001)
        shown = await it.inject(
            {"slow_body": {"rate": 1, "share": "1%"}, "in_windows": False, "match": None, "ttl": "5m"}
        )
        assert (shown["slow_body"], shown["in_windows"]) == ({"rate": 1, "share": 0.01}, False)


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no ttl": ({"abort": {}}, {"#"}),
    "never": ({"abort": {}, "ttl": "never"}, {"#/ttl"}),
    "too long": ({"abort": {}, "ttl": "366d"}, {"#/ttl"}),
    "a number": ({"abort": {}, "ttl": 5}, {"#/ttl"}),
    "nothing": ({"ttl": "5m"}, {"#"}),
    "all of it": (
        {
            "abort": {"status": 99, "share": 1.5, "x/y": 1},
            "delay": {"duration": 0},
            "match": {"methods": ["GET", "G T"]},
            "ttl": "5m",
            "in_windows": "maybe",
            "force": "yes",
            "actor": 1,
        },
        {
            "#/abort/status",
            "#/abort/share",
            "#/abort/x~1y",
            "#/delay/duration",
            "#/match/methods/1",
            "#/in_windows",
            "#/force",
            "#/actor",
        },
    ),
    "an unknown key": ({"abrt": {}, "ttl": "5m"}, {"#/abrt", "#"}),
    "a variable": ({"abort": {}, "ttl": "${HOME}"}, {"#/ttl"}),
    "no block": ({"abort": 503, "ttl": "5m"}, {"#/abort"}),
}


@pytest.mark.parametrize(("body", "pointers"), WRONG.values(), ids=WRONG)
async def test_every_wrong_value_is_pointed_at(tmp_path: Path, body: dict[str, Any], pointers: set[str]) -> None:
    async with scene(tmp_path) as it:
        status, problem = await it.put(body)
        assert status == 422, problem
        assert {one["pointer"] for one in problem["errors"]} == pointers, problem
        assert await it.listed() == []
