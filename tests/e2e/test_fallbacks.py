"""What answers in the place of an upstream that cannot: through real sockets, with every signal that tells of it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, KeptLines, written
from tests.support.origin import AGAIN, CLOSE, GATE, OK, READ, READ_HEAD, RESET, STALL, RawOrigin
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.origin import Script

NOWHERE = "http://127.0.0.1:9"
SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick"
FAILING: Script = (READ, SICK, AGAIN)
STATIC = {"status": 200, "headers": {"content-type": "application/json", "x-from": "static"}, "body": '{"items": []}'}


class Scene:
    def __init__(self, sidecar: Configured, sink: KeptLines, shop: RawOrigin, backup: RawOrigin) -> None:
        self.sidecar = sidecar
        self.sink = sink
        self.shop = shop
        self.backup = backup

    async def total(self, name: str, **labels: str) -> float:
        return (await self.sidecar.metrics()).total(name, **labels)

    async def logged(self) -> dict[str, Any]:
        """The last line of the access log."""
        self.sidecar.running.data.flush()
        return self.sink.lines[-1]


@asynccontextmanager
async def scene(
    folder: Path,
    fallback: object,
    *,
    shop: Script | str = FAILING,
    backup: Script = (READ, OK, AGAIN),
    routes: list[dict[str, Any]] | None = None,
    standby: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """A sidecar before `shop`, which falls back as said and has `settings`; `backup` is there, too, with those of
    `standby`, and `down`, which is not.
    """
    first, second = RawOrigin(FAILING if isinstance(shop, str) else shop), RawOrigin(backup)
    await first.start()
    await second.start()
    upstreams = {
        "shop": {
            "url": shop if isinstance(shop, str) else first.url,
            "cache": {"mode": "off"},
            "fallback": fallback,
            **settings,
        },
        "backup": {
            "url": second.url,
            "cache": {"mode": "off"},
            "breaker": {"failure_threshold": 2},
            **(standby or {}),
        },
        "down": {"url": NOWHERE},
    }
    sink = KeptLines()
    sidecar = await Configured.begin(folder / "sidecar.yaml", written(upstreams, routes=routes), sink)  # type: ignore[arg-type]
    try:
        yield Scene(sidecar, sink, first, second)
    finally:
        sidecar.hang_up()
        assert await sidecar.is_quiet()
        await sidecar.stop()
        await first.stop()
        await second.stop()


FAILURES: dict[str, tuple[Script | str, str, str]] = {
    "a status in failures": (FAILING, "destination_unavailable; received-status=503", "the upstream answered 503"),
    "refused": (NOWHERE, "connection_refused", "connection_refused: "),
    "reset": ((READ, RESET), "connection_terminated", "connection_terminated: "),
    "closed": ((READ, CLOSE), "connection_terminated", "connection_terminated: "),
    "malformed": ((READ, b"HTTP/1.1 abc\r\n\r\n", CLOSE), "http_protocol_error", "http_protocol_error: "),
    "timeout": ((READ, STALL), "http_response_timeout", "http_response_timeout: nothing came"),
}


@pytest.mark.parametrize(("shop", "error", "details"), FAILURES.values(), ids=FAILURES)
async def test_a_static_answer_stands_in_for_every_failure(
    tmp_path: Path, shop: Script | str, error: str, details: str
) -> None:
    async with scene(tmp_path, STATIC, shop=shop, timeouts={"first_byte": "100ms"}) as it:
        assert await it.total("sidecar_fallbacks_total", route="shop", kind="static") == 0
        answer = await it.sidecar.get("/shop/1")
        assert (answer.status, answer.body, answer.get("x-from")) == (200, b'{"items": []}', b"static")
        assert answer.get("content-type") == b"application/json"
        assert answer.get("cache-control") == b"no-store"
        assert answer.get("x-sidecar-fallback") == b"static"
        assert answer.get("cache-status") is None
        said = (answer.get("proxy-status") or b"").decode()
        assert said.startswith(f'sidecar; error={error}; details="{details}'), said
        seen = await it.sidecar.metrics()
        assert seen.total("sidecar_fallbacks_total", route="shop", kind="static") == 1
        assert seen.total("sidecar_requests_total", route="shop", code="200", source="fallback") == 1
        assert seen.total("sidecar_circuit_calls_total", circuit="shop", outcome="success") == 0
        await eventually_counted(it, "failure", 1)
        line = await it.logged()
        assert (line["source"], line["status"], line["fallback"]) == ("fallback", 200, "static")
        assert line["error"]
        assert line["detail"].startswith(details)


async def eventually_counted(it: Scene, outcome: str, count: int) -> None:
    """What is drained behind the answer is settled a moment later."""
    circuit = it.sidecar.running.data.routes.circuits["shop"]
    await eventually(lambda: circuit.counters.calls[outcome] == count)


async def test_an_open_circuit_is_replaced_and_asks_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, STATIC, breaker={"failure_threshold": 1}) as it:
        assert [(await it.sidecar.get("/shop/1")).status for _ in range(3)] == [200] * 3
        assert await it.sidecar.state_of("shop") == "open"
        assert len(it.shop.requests) == 1
        answer = await it.sidecar.get("/shop/1")
        assert b"error=destination_unavailable" in (answer.get("proxy-status") or b"")
        assert b"circuit_open: " in (answer.get("proxy-status") or b"")
        assert answer.get("retry-after") is None


@pytest.mark.parametrize("status", [404, 429, 200, 501])
async def test_an_answer_whose_status_is_no_failure_passes(tmp_path: Path, status: int) -> None:
    sent = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nhi" % status
    async with scene(tmp_path, STATIC, shop=(READ, sent, AGAIN)) as it:
        answer = await it.sidecar.get("/shop/1")
        assert (answer.status, answer.get("x-sidecar-fallback")) == (status, None)


async def test_what_the_client_did_wrong_is_not_replaced(tmp_path: Path) -> None:
    async with scene(tmp_path, STATIC) as it:
        assert (await it.sidecar.get("/nowhere")).status == 404
        assert (await it.sidecar.exchange(b"GET /shop/1 HTTP/1.1\r\n\r\n")).status == 400
        assert await it.total("sidecar_fallbacks_total") == 0


async def test_an_answer_that_has_begun_cannot_be_replaced(tmp_path: Path) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
    async with scene(tmp_path, STATIC, shop=(READ, begun, GATE, RESET)) as it:
        client = await it.sidecar.connect()
        await client.send(b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        it.shop.gate.set()
        assert await client.was_cut()
        assert await it.total("sidecar_fallbacks_total") == 0


ASKED = {
    "HEAD": (b"HEAD /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD", b""),
    "a condition": (b'GET /shop/1 HTTP/1.1\r\nHost: a\r\nIf-None-Match: "v1"\r\n\r\n', "GET", b'{"items": []}'),
    "a range": (b"GET /shop/1 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-3\r\n\r\n", "GET", b'{"items": []}'),
    "HTTP/1.0": (b"GET /shop/1 HTTP/1.0\r\nHost: a\r\n\r\n", "GET", b'{"items": []}'),
}


@pytest.mark.parametrize(("asked", "method", "body"), ASKED.values(), ids=ASKED)
async def test_a_static_answer_is_whole_whatever_is_asked_for(
    tmp_path: Path, asked: bytes, method: str, body: bytes
) -> None:
    async with scene(tmp_path, STATIC, shop=NOWHERE) as it:
        client = await it.sidecar.connect()
        answer = await client.exchange(asked, method)
        assert (answer.status, answer.body, answer.get("content-length")) == (200, body, b"13")
        if b"1.1" in asked:
            assert (await client.exchange(b"GET /shop/2 HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200


async def test_a_status_without_content_has_none(tmp_path: Path) -> None:
    async with scene(tmp_path, {"status": 204}, shop=NOWHERE) as it:
        answer = await it.sidecar.get("/shop/1")
        assert (answer.status, answer.get("content-length"), answer.get("content-type")) == (204, None, None)


async def test_a_file_is_read_at_the_start_and_again_on_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text("[]")
    async with scene(tmp_path, {"file": str(file)}, shop=NOWHERE) as it:
        answer = await it.sidecar.get("/shop/1")
        assert (answer.body, answer.get("content-type")) == (b"[]", b"application/json")
        assert answer.get("x-sidecar-fallback") == b"file"
        assert await it.total("sidecar_fallbacks_total", kind="file") == 1
        file.write_text("[1]")
        assert (await it.sidecar.get("/shop/1")).body == b"[]"
        assert it.sidecar.file is not None
        reviewed = await it.sidecar.reload(it.sidecar.file.read_text())
        assert reviewed.change is not None
        assert reviewed.change.changed == ()
        assert (await it.sidecar.get("/shop/1")).body == b"[1]"
        file.unlink()
        reviewed = await it.sidecar.reload(it.sidecar.file.read_text())
        assert [problem.line for problem in reviewed.loaded.errors]
        assert (await it.sidecar.get("/shop/1")).body == b"[1]"


async def test_another_upstream_gets_the_path_that_the_first_would_have_got(tmp_path: Path) -> None:
    async with scene(tmp_path, {"upstream": "backup"}) as it:
        answer = await it.sidecar.get("/shop/a%2Fb?c=d", "X-Tenant: gold")
        assert (answer.status, answer.body, answer.get("x-sidecar-fallback")) == (200, b"ok", b"backup")
        assert it.shop.lines == it.backup.lines == ["GET /a%2Fb?c=d"]
        sent = it.backup.request
        assert sent.get("x-tenant") == b"gold"
        assert sent.get("host") == f"127.0.0.1:{it.backup.port}".encode()
        assert await it.total("sidecar_fallbacks_total", route="shop", kind="upstream") == 1
        line = await it.logged()
        assert (line["route"], line["source"], line["fallback"]) == ("shop", "fallback", "backup")
        await eventually_counted(it, "failure", 1)
        assert it.sidecar.running.data.routes.circuits["shop"].counters.calls["success"] == 0


async def test_a_fallback_upstream_is_asked_through_the_circuit_of_its_implicit_route(tmp_path: Path) -> None:
    async with scene(tmp_path, [{"upstream": "backup"}, STATIC], backup=FAILING) as it:
        shown = [(await it.sidecar.get("/shop/1")).get("x-sidecar-fallback") for _ in range(3)]
        assert shown == [b"static"] * 3
        assert await it.sidecar.state_of("backup") == "open"
        # Its threshold is two failures; the third request did not reach it.
        assert len(it.backup.requests) == 2
        # And so the route of its own is refused, too.
        assert (await it.sidecar.get("/backup/1")).status == 503
        await it.sidecar.call("POST", "/v1/circuits/backup/reset")
        it.backup.then((READ, OK, AGAIN))
        assert await it.sidecar.state_of("backup") == "closed"


async def test_a_fallback_upstream_without_an_implicit_route_has_a_circuit_of_its_own(tmp_path: Path) -> None:
    routes = [
        {"name": "shop", "match": {"prefix": "/shop/"}, "upstream": "shop"},
        {"name": "other", "match": {"prefix": "/other/"}, "upstream": "backup"},
    ]
    async with scene(tmp_path, {"upstream": "backup"}, backup=FAILING, routes=routes) as it:
        first = await it.sidecar.get("/shop/1")
        assert (first.status, first.body, first.get("x-sidecar-fallback")) == (503, b"sick", None)
        await it.sidecar.get("/shop/1")
        assert await it.sidecar.state_of("fallback:backup") == "open"
        assert await it.sidecar.state_of("other") == "closed"
        _, listed = await it.sidecar.call("GET", "/v1/circuits")
        (own,) = [one for one in listed["circuits"] if one["name"] == "fallback:backup"]
        assert (own["route"], own["upstream"]) == (None, "backup")
        assert await it.total("sidecar_circuit_state", circuit="fallback:backup", state="open") == 1
        assert await it.total("sidecar_fallbacks_total", route="shop", kind="upstream") == 0
        # It stays as it is when the file is read again.
        assert it.sidecar.file is not None
        await it.sidecar.reload(it.sidecar.file.read_text())
        assert await it.sidecar.state_of("fallback:backup") == "open"


async def test_a_fallback_upstream_has_its_own_timeouts(tmp_path: Path) -> None:
    backup = (READ, GATE, OK, AGAIN)
    async with scene(
        tmp_path, {"upstream": "backup"}, shop=(READ, STALL), backup=backup, timeouts={"first_byte": "50ms"}
    ) as it:
        client = await it.sidecar.connect()
        await client.send(b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await it.backup.until(lambda origin: origin.requests)
        # Longer than the first upstream's time, in which it would have been given up.
        assert not await answers_within(client, 0.2)
        it.backup.gate.set()
        assert (await client.response()).body == b"ok"


async def test_time_that_the_first_upstream_used_up_is_not_charged_to_a_fallback_upstream(tmp_path: Path) -> None:
    total: dict[str, Any] = {"timeouts": {"total": "300ms"}}
    async with scene(tmp_path, [{"upstream": "backup"}, STATIC], shop=(READ, STALL), standby=total, **total) as it:
        answers = [await it.sidecar.get("/shop/1") for _ in range(2)]
        assert [(one.body, one.get("x-sidecar-fallback")) for one in answers] == [(b"ok", b"backup")] * 2
        # What is left is told to it: of its own time, for the first one's is over.
        assert all(100 < int(one.get("x-request-timeout-ms") or b"0") < 300 for one in it.backup.requests)
        assert await it.sidecar.state_of("backup") == "closed"
        assert await it.total("sidecar_circuit_calls_total", circuit="backup", outcome="failure") == 0


async def test_a_fallback_upstream_that_fell_back_itself_is_not_taken_for_what_answered_here(tmp_path: Path) -> None:
    inner = b"HTTP/1.1 200 OK\r\nX-Sidecar-Fallback: static\r\nContent-Length: 2\r\n\r\nok"
    async with scene(tmp_path, {"upstream": "backup"}, backup=(READ, inner, AGAIN)) as it:
        answer = await it.sidecar.get("/shop/1")
        assert [value for name, value in answer.fields if name.lower() == b"x-sidecar-fallback"] == [b"backup"]


async def test_a_fallback_upstream_goes_by_its_timeouts_of_now(tmp_path: Path) -> None:
    async with scene(
        tmp_path, [{"upstream": "backup"}, STATIC], backup=(READ, STALL), standby={"timeouts": {"first_byte": "30s"}}
    ) as it:
        assert it.sidecar.file is not None
        await it.sidecar.reload(it.sidecar.file.read_text().replace("30s", "50ms"))
        async with asyncio.timeout(10):
            assert (await it.sidecar.get("/shop/1")).get("x-sidecar-fallback") == b"static"


async def test_the_clients_own_deadline_bounds_a_fallback_upstream_too(tmp_path: Path) -> None:
    async with scene(
        tmp_path,
        [{"upstream": "backup"}, STATIC],
        shop=(READ, STALL),
        backup=(READ, STALL),
        timeouts={"first_byte": "100ms"},
    ) as it:
        answer = await it.sidecar.get("/shop/1", "X-Request-Timeout-Ms: 300")
        assert (answer.status, json.loads(answer.body)["reason"]) == (504, "deadline_exceeded")
        assert 0 < int(it.backup.requests[0].get("x-request-timeout-ms") or b"0") < 200
        assert await it.total("sidecar_circuit_calls_total", circuit="backup", outcome="failure") == 0


async def test_a_fallback_upstream_whose_kept_alive_connection_died_is_asked_again(tmp_path: Path) -> None:
    async with scene(
        tmp_path,
        [{"upstream": "backup"}, STATIC],
        backup=(READ, OK, READ, CLOSE),
        standby={"retry": {"attempts": 2}},
        retry={"attempts": 2, "budget": None},
    ) as it:
        assert (await it.sidecar.get("/shop/1")).get("x-sidecar-fallback") == b"backup"
        it.backup.then((READ, OK, AGAIN))
        # The attempts at the first upstream are none of those at this one.
        assert (await it.sidecar.get("/shop/1")).get("x-sidecar-fallback") == b"backup"
        assert [one.get("x-sidecar-attempt") for one in it.backup.requests] == [None, None, b"2"]
        assert await it.total("sidecar_retries_total", upstream="backup", result="success") == 1
        assert (await it.logged())["attempts"] == 4


async def test_a_fallback_upstream_that_does_not_retry_is_asked_once_and_not_as_a_repetition(tmp_path: Path) -> None:
    retry = {"attempts": 3, "backoff": {"base": "0s"}}
    async with scene(tmp_path, {"upstream": "backup"}, retry=retry) as it:
        assert (await it.sidecar.get("/shop/1")).get("x-sidecar-fallback") == b"backup"
        assert [one.get("x-sidecar-attempt") for one in it.shop.requests] == [None, b"2", b"3"]
        assert it.backup.request.get("x-sidecar-attempt") is None


async def test_a_body_goes_past_a_fallback_upstream_that_refuses_to_the_next(tmp_path: Path) -> None:
    async with scene(tmp_path, [{"upstream": "down"}, {"upstream": "backup"}]) as it:
        for body in (b"hello", b"x" * 65536):
            answer = await it.sidecar.exchange(post(body, chunked=True), "POST")
            assert (answer.status, answer.get("x-sidecar-fallback")) == (200, b"backup")
            assert it.backup.requests[-1].body == body


async def answers_within(client: Any, seconds: float) -> bool:
    try:
        await eventually(lambda: client.received, within=seconds)
    except TimeoutError:
        return False
    return True


BODIES = {
    "short": (b"hello", b"backup"),
    "as long as is kept": (b"x" * 65536, b"backup"),
    "one octet longer": (b"x" * 65537, b"static"),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("body", "shown"), BODIES.values(), ids=BODIES)
async def test_a_short_body_is_sent_again_and_a_long_one_leads_to_the_next(
    tmp_path: Path, body: bytes, shown: bytes, *, chunked: bool
) -> None:
    async with scene(tmp_path, [{"upstream": "backup"}, STATIC]) as it:
        answer = await it.sidecar.exchange(post(body, chunked=chunked), "POST")
        assert (answer.status, answer.get("x-sidecar-fallback")) == (200, shown)
        assert it.shop.request.body == body
        assert [one.body for one in it.backup.requests] == ([body] if shown == b"backup" else [])


def post(body: bytes, *, chunked: bool = False) -> bytes:
    if chunked:
        return b"POST /shop/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
            len(body),
            body,
        )
    return b"POST /shop/1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_body_that_is_still_arriving_goes_to_the_fallback(tmp_path: Path) -> None:
    async with scene(tmp_path, {"upstream": "backup"}, shop=(READ_HEAD, RESET)) as it:
        client = await it.sidecar.connect()
        whole = post(b"hello world")
        await client.send(whole[:-6])
        await it.backup.until(lambda origin: origin.connections and b"hello" in origin.connections[0].received)
        await client.send(whole[-6:])
        assert (await client.response("POST")).get("x-sidecar-fallback") == b"backup"
        assert it.backup.request.body == b"hello world"


async def test_a_body_that_nobody_has_read_goes_past_an_open_circuit(tmp_path: Path) -> None:
    async with scene(tmp_path, {"upstream": "backup"}, breaker={"failure_threshold": 1}) as it:
        await it.sidecar.get("/shop/1")
        client = await it.sidecar.connect()
        whole = post(b"hello world")
        await client.send(whole[:-6])
        await it.backup.until(lambda origin: any(b"hello" in one.received for one in origin.connections))
        await client.send(whole[-6:])
        assert (await client.response("POST")).get("x-sidecar-fallback") == b"backup"
        assert it.backup.requests[-1].body == b"hello world"
        assert len(it.shop.requests) == 1


async def test_a_client_that_leaves_ends_the_fallback_too(tmp_path: Path) -> None:
    async with scene(tmp_path, {"upstream": "backup"}, backup=(READ, STALL)) as it:
        client = await it.sidecar.connect()
        await client.send(b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await it.backup.until(lambda origin: origin.requests)
        client.reset()
        await it.backup.ended()
        assert await it.sidecar.is_quiet()


LARGE = b"HTTP/1.1 503 Oh\r\nContent-Length: 200000\r\n\r\n"


async def test_a_large_answer_passes_whole_when_no_fallback_answers(tmp_path: Path) -> None:
    shop = (READ, LARGE, GATE, b"x" * 200_000, AGAIN)
    async with scene(tmp_path, {"upstream": "backup"}, shop=shop, backup=FAILING) as it:
        client = await it.sidecar.connect()
        await client.send(b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await it.backup.until(lambda origin: origin.requests)
        it.shop.gate.set()
        answer = await client.response()
        assert (answer.status, len(answer.body), answer.get("x-sidecar-fallback")) == (503, 200_000, None)
        await eventually_counted(it, "failure", 1)


@pytest.mark.parametrize("leaves", [False, True], ids=["the fallback answers", "the client leaves"])
async def test_a_large_answer_that_is_replaced_is_let_go(tmp_path: Path, *, leaves: bool) -> None:
    shop = (READ, LARGE + b"x" * 100_000, STALL)
    async with scene(tmp_path, {"upstream": "backup"}, shop=shop, backup=(READ, GATE, OK, AGAIN)) as it:
        client = await it.sidecar.connect()
        await client.send(b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await it.backup.until(lambda origin: origin.requests)
        if leaves:
            client.reset()
            await eventually_counted(it, "cancelled", 1)
        else:
            it.backup.gate.set()
            assert (await client.response()).body == b"ok"
            await eventually_counted(it, "failure", 1)
        await it.shop.ended()
        assert await it.sidecar.is_quiet()


async def test_a_request_whose_upstream_answers_early_is_not_sent_to_another_while_it_is_read(tmp_path: Path) -> None:
    async with scene(tmp_path, [{"upstream": "backup"}, STATIC], shop=(READ_HEAD, SICK, STALL)) as it:
        client = await it.sidecar.connect()
        await client.send(post(b"hello world")[:-6])
        assert (await client.response("POST")).get("x-sidecar-fallback") == b"static"
        assert it.backup.connections == []


CACHED = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 6\r\n\r\nstored"


async def test_a_stale_stored_answer_comes_before_all(tmp_path: Path) -> None:
    shop = (READ, CACHED, READ, SICK, AGAIN)
    cache = {"mode": "standard", "stale_ttl": "1h"}
    async with scene(tmp_path, STATIC, shop=shop, cache=cache) as it:
        assert (await it.sidecar.get("/shop/1")).body == b"stored"
        answer = await it.sidecar.get("/shop/1")
        assert (answer.body, answer.get("x-sidecar-fallback")) == (b"stored", None)
        assert b"hit" in (answer.get("cache-status") or b"")


async def test_a_fallback_is_never_stored_under_the_key_of_the_first(tmp_path: Path) -> None:
    fresh = CACHED.replace(b"max-age=0", b"max-age=60")
    cache = {"mode": "standard"}
    async with scene(tmp_path, {"upstream": "backup"}, backup=(READ, fresh, AGAIN), cache=cache) as it:
        for _ in range(2):
            answer = await it.sidecar.get("/shop/1")
            assert (answer.body, answer.get("x-sidecar-fallback")) == (b"stored", b"backup")
        assert len(it.shop.requests) == len(it.backup.requests) == 2
        assert await it.total("sidecar_cache_entries") == 0


async def test_the_address_of_a_fallback_upstream_may_change_where_the_route_does_not(tmp_path: Path) -> None:
    async with scene(tmp_path, {"upstream": "backup"}) as it:
        assert (await it.sidecar.get("/shop/1")).body == b"ok"
        assert it.sidecar.file is not None
        text = it.sidecar.file.read_text().replace(it.backup.url, NOWHERE)
        await it.sidecar.reload(text)
        assert (await it.sidecar.get("/shop/1")).status == 503
