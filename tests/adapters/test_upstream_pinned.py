"""Whose connection is it: what NTLM and Negotiate authenticate is one client connection's alone (RFC 4559 §6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.authenticating_origin import (
    authenticating_origin,
    first_step,
    last_step,
    log_in,
    one_step,
    request,
    whose,
)
from tests.support.caching_origin import message
from tests.support.client import GOOD
from tests.support.origin import AGAIN, CLOSE, HALF_CLOSE, OK, READ, RESET, STALL, Do
from tests.support.running import config_text
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import LaunchSidecar, StartOrigin, StartSidecar
    from tests.support.authenticating_origin import AuthenticatingOrigin
    from tests.support.client import RawClient
    from tests.support.messages import WireResponse

NTLM_ASKED = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 3\r\n\r\nwho"
STEP = b"GET /step HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAADAAAA\r\n\r\n"
MODES = ["off", "standard", "fallback"]


@pytest.fixture
async def origin(no_task_leaks: None) -> AsyncIterator[AuthenticatingOrigin]:  # noqa: ARG001 - torn down after it
    async with authenticating_origin() as running:
        yield running


async def one_step_log_in(client: RawClient, user: str) -> WireResponse:
    return await client.exchange(request("/own", one_step(user)))


LOG_INS: dict[str, Callable[[RawClient, str], Awaitable[WireResponse]]] = {
    "ntlm": log_in,
    "negotiate in two steps": lambda client, user: log_in(client, user, "Negotiate"),
    "negotiate in one step": one_step_log_in,
    "oddly written": lambda client, user: log_in(client, user, "nTlM"),
}


# Nobody is taken for another


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("enter", LOG_INS.values(), ids=LOG_INS.keys())
async def test_another_client_is_never_answered_as_the_user_who_logged_in(
    origin: AuthenticatingOrigin,
    start_sidecar: StartSidecar,
    enter: Callable[[RawClient, str], Awaitable[WireResponse]],
    mode: str,
) -> None:
    sidecar = await start_sidecar(origin.url, upstream={"cache": {"mode": mode}})
    ann, bob = await sidecar.connect(), await sidecar.connect()

    assert whose(await enter(ann, "ann")) == "ann"

    for _ in range(3):
        assert (await bob.exchange(request())).status == 401
        assert whose(await ann.exchange(request())) == "ann"
        assert (await sidecar.exchange(request("/open"))).body == b"anyone GET 0"
    assert len(origin.of("ann")) == 1
    assert whose(await enter(bob, "bob")) == "bob"
    assert whose(await ann.exchange(request())) == "ann"


@pytest.mark.parametrize("mode", MODES)
async def test_users_whose_handshakes_interleave_never_meet(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, mode: str
) -> None:
    sidecar = await start_sidecar(origin.url, upstream={"cache": {"mode": mode}})
    users = [f"user{number}" for number in range(8)]
    clients = [await sidecar.connect() for _ in users]

    async def all_ask(*data: bytes) -> list[WireResponse]:
        asked = zip(clients, data, strict=True)
        return await asyncio.gather(*(client.exchange(each) for client, each in asked))

    plain = [request()] * len(users)
    assert {each.status for each in await all_ask(*plain)} == {401}
    challenged = await all_ask(*[request("/own", first_step())] * len(users))
    answers = [request("/own", last_step(*each)) for each in zip(challenged, users, strict=True)]
    assert [whose(each) for each in await all_ask(*answers)] == users
    for _ in range(5):
        assert [whose(each) for each in await all_ask(*plain)] == users
    assert all(len(origin.of(user)) == 1 for user in users)


async def test_pipelined_requests_are_all_the_user_s(origin: AuthenticatingOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")

    await client.send(request() * 10)

    assert [whose(await client.response()) for _ in range(10)] == ["ann"] * 10


async def test_one_client_is_known_to_two_upstreams_apart(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    async with authenticating_origin() as other:
        second = {"url": other.url, "cache": {"mode": "off"}}
        config = {"origin": {"url": origin.url, "cache": {"mode": "off"}}, "other": second}
        routes = [{"name": name, "match": {"prefix": f"/{name}"}, "upstream": name} for name in config]
        sidecar = await start_sidecar(origin.url, top={"upstreams": config, "routes": routes})
        client = await sidecar.connect()
        assert whose(await log_in(client, "ann", target="/origin")) == "ann"
        assert (await client.exchange(request("/other"))).status == 401
        assert whose(await log_in(client, "bob", target="/other")) == "bob"

        for _ in range(3):
            assert whose(await client.exchange(request("/origin"))) == "ann"
            assert whose(await client.exchange(request("/other"))) == "bob"


async def test_every_route_to_the_upstream_uses_the_client_s_connection(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    routes = [{"name": name, "match": {"prefix": f"/{name}"}, "upstream": "origin"} for name in ("own", "more")]
    sidecar = await start_sidecar(origin.url, top={"routes": routes})
    client = await sidecar.connect()
    await log_in(client, "ann")

    assert whose(await client.exchange(request("/more"))) == "ann"


CHALLENGES: dict[str, tuple[tuple[str, ...], bool]] = {
    "ntlm": (("WWW-Authenticate: NTLM",), True),
    "negotiate": (("www-authenticate: negotiate",), True),
    "among others in one field": (('WWW-Authenticate: Basic realm="x", Negotiate, Digest nonce=y',), True),
    "among others in several": (('WWW-Authenticate: Basic realm="x"', "WWW-Authenticate: NTLM abc=="), True),
    "of a proxy": (("Proxy-Authenticate: NTLM",), True),
    "basic": (('WWW-Authenticate: Basic realm="NTLM, Negotiate"',), False),
    "bearer": (("WWW-Authenticate: Bearer",), False),
}


@pytest.mark.parametrize("status", [200, 401, 403, 407])
@pytest.mark.parametrize(("fields", "pins"), CHALLENGES.values(), ids=CHALLENGES.keys())
async def test_whatever_answer_speaks_of_such_a_scheme_pins_its_connection(
    origin: AuthenticatingOrigin,
    start_sidecar: StartSidecar,
    fields: tuple[str, ...],
    pins: bool,  # noqa: FBT001 - a table's column
    status: int,
) -> None:
    origin.answer = lambda _wire, _fields, _request: message("x", *fields, status=status)
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    for _ in range(3):
        assert (await client.exchange(request())).status == status
    assert (await sidecar.exchange(request())).status == status

    assert len(origin.wires) == (2 if pins else 1)
    assert len(origin.wires[0].lines) == (3 if pins else 4)


# The handshake works


BODIES = {
    "get": ("GET", b""),
    "head": ("HEAD", b""),
    "post": ("POST", b"x" * 1000),
    "put of much": ("PUT", b"y" * 300_000),
    "post of nothing": ("POST", b""),
    "delete": ("DELETE", b""),
}


def chunked(data: bytes) -> bytes:
    """The response `data` (with its length given) in chunks."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[at : at + 1]) for at in range(len(body)))
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + chunks + b"0\r\n\r\n"


def large(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    return (
        head.replace(b"Content-Length: %d" % len(body), b"Content-Length: 500000") + b"\r\n\r\n" + body.ljust(500_000)
    )


def nothing(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    return (
        data
        if b" 200 " in head
        else head.replace(b"Content-Length: %d" % len(body), b"Content-Length: 0") + (b"\r\n\r\n")
    )


@pytest.mark.parametrize("mode", ["off", "standard"])
@pytest.mark.parametrize("shape", [bytes, chunked, large, nothing], ids=["content", "chunks", "large", "no content"])
@pytest.mark.parametrize(("method", "content"), BODIES.values(), ids=BODIES.keys())
async def test_all_steps_of_a_handshake_go_on_one_upstream_connection(
    origin: AuthenticatingOrigin,
    start_sidecar: StartSidecar,
    method: str,
    content: bytes,
    shape: Callable[[bytes], bytes],
    mode: str,
) -> None:
    origin.shape = shape
    sidecar = await start_sidecar(origin.url, upstream={"cache": {"mode": mode}})
    client, other = await sidecar.connect(), await sidecar.connect()

    assert (await client.exchange(request("/own", method=method, content=content), method)).status == 401
    assert (await other.exchange(request())).status == 401
    challenged = await client.exchange(request("/own", first_step(), method=method, content=content), method)
    assert challenged.status == 401
    assert (await other.exchange(request("/own", first_step()))).status == 401
    data = request("/own", last_step(challenged, "ann"), method=method, content=content)
    granted = await client.exchange(data, method)

    assert granted.status == 200
    if method != "HEAD":
        assert granted.body.rstrip() == f"ann {method} {len(content)}".encode()
    assert origin.wires[0].lines[-3:] == [f"{method} /own"] * 3
    assert whose(await client.exchange(request())) == "ann"
    assert (await other.exchange(request())).status == 401


async def test_the_connection_stays_with_its_endpoint_of_several(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    async with authenticating_origin() as other:
        sidecar = await start_sidecar([origin.url, other.url])
        clients = [await sidecar.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            assert whose(await log_in(client, f"user{number}")) == f"user{number}"
        for _ in range(10):
            for number, client in enumerate(clients):
                assert whose(await client.exchange(request())) == f"user{number}"
        assert len(origin.wires) + len(other.wires) == len(clients)


async def test_age_does_not_end_a_connection_in_the_middle_of_a_handshake(origin: AuthenticatingOrigin) -> None:
    async with still_sidecar(origin.url, upstream={"pool": {"max_age": "1s"}}) as sidecar:
        client = await sidecar.connect()
        await client.exchange(request())
        challenged = await client.exchange(request("/own", first_step()))
        sidecar.clock.advance(5)
        assert whose(await client.exchange(request("/own", last_step(challenged, "ann")))) == "ann"


@pytest.mark.parametrize("absolute", [True, False])
async def test_a_client_of_a_proxy_is_told_that_its_connection_is_its_own(
    origin: AuthenticatingOrigin,
    start_sidecar: StartSidecar,
    absolute: bool,  # noqa: FBT001 - a table's column
) -> None:
    route = {"match": {"prefix": "/", "host": "a"}}
    sidecar = await start_sidecar(origin.url, route=route)
    client = await sidecar.connect()
    asked = await client.exchange(request("http://a/own" if absolute else "/own"))

    assert asked.status == 401
    assert asked.get("proxy-support") == (b"Session-Based-Authentication" if absolute else None)
    assert asked.get("connection") == (b"Proxy-Support" if absolute else None)


async def test_an_authenticated_client_may_switch_protocols_on_its_connection(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")
    origin.answer = lambda wire, _fields, _asked: (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + wire.user.encode()
    )

    switched = await client.exchange(request("/own", "Connection: Upgrade", "Upgrade: echo"))
    await client.until(lambda: client.unread == b"ann")

    assert switched.status == 101
    assert len(origin.wires) == 1
    client.transport.abort()
    await eventually(lambda: not origin.standing)


# How long it lasts


@pytest.mark.parametrize("enter", LOG_INS.values(), ids=LOG_INS.keys())
@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
async def test_it_ends_with_its_client(
    origin: AuthenticatingOrigin,
    start_sidecar: StartSidecar,
    enter: Callable[[RawClient, str], Awaitable[WireResponse]],
    leave: str,
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await enter(client, "ann")
    assert len(origin.standing) == 1

    {"close": client.close, "reset": client.reset, "half-close": client.half_close}[leave]()

    await eventually(lambda: not origin.standing)
    assert (await sidecar.exchange(request())).status == 401


CLOSING = {
    "the client says close": (b"Connection: close\r\n", {}),
    "the listener's limit": (b"", {"limits": {"requests_per_connection": 1}}),
}


@pytest.mark.parametrize(("line", "proxy"), CLOSING.values(), ids=CLOSING.keys())
async def test_it_ends_with_its_client_s_last_answer(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, line: bytes, proxy: dict[str, Any]
) -> None:
    sidecar = await start_sidecar(origin.url, proxy=proxy)
    client = await sidecar.connect()
    data = request("/own", one_step("ann"))

    assert whose(await client.exchange(data[:-2] + line + b"\r\n")) == "ann"

    assert await client.has_closed()
    await eventually(lambda: not origin.standing)


@pytest.mark.parametrize("cut", ["before the head", "in the body"])
async def test_it_ends_with_a_client_that_leaves_during_an_answer(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, cut: str
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    origin.answer = lambda _wire, _fields, _request: half if cut == "in the body" else None
    await client.send(request("/slow"))
    await eventually(lambda: "GET /slow" in origin.lines)
    if cut == "in the body":
        await client.until(lambda: b"half" in client.received)

    client.transport.abort()

    await eventually(lambda: not origin.standing)
    calls = await sidecar.metrics()
    assert calls.total("sidecar_circuit_calls_total", outcome="failure") == 0


async def test_the_idle_timeout_ends_it_and_the_client_is_asked_anew(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(origin.url, upstream={"pool": {"keep_alive": "300ms"}})
    client = await sidecar.connect()
    await log_in(client, "ann")
    assert (await sidecar.metrics()).total("sidecar_upstream_connections", state="idle") == 1

    await eventually(lambda: not origin.standing)
    await turns(5)

    assert (await sidecar.metrics()).total("sidecar_upstream_connections", state="idle") == 0
    assert whose(await log_in(client, "ann")) == "ann"
    assert len(origin.wires) == 2


async def test_a_connection_that_was_idle_too_long_is_not_used_even_if_it_stands(origin: AuthenticatingOrigin) -> None:
    async with still_sidecar(origin.url, upstream={"pool": {"keep_alive": "10s"}}) as sidecar:
        client = await sidecar.connect()
        await log_in(client, "ann")
        sidecar.clock.advance(11)
        assert (await client.exchange(request())).status == 401


@pytest.mark.parametrize("how", ["close", "reset", "half_close", "poison"])
async def test_a_client_whose_upstream_connection_is_gone_is_asked_anew(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, how: str
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")
    wire = origin.wires[0]
    await (wire.send(b"unasked for") if how == "poison" else turns(1))
    if how != "poison":
        getattr(wire, how)()
    await eventually(lambda: wire.ended or wire.transport.is_closing())
    await turns(5)

    assert whose(await log_in(client, "ann")) == "ann"
    assert len(origin.wires) == 2
    assert (await sidecar.metrics()).total("sidecar_upstream_connections", state="idle") == 1


@pytest.mark.parametrize("answer", ["close", "more"])
async def test_a_connection_that_the_origin_does_not_keep_is_replaced(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar, answer: str
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")
    last = {"close": message("x", "Connection: close"), "more": message("x") + b"more"}[answer]
    origin.answer = lambda _wire, _fields, _request: last
    assert (await client.exchange(request())).status == 200
    origin.answer = origin.usual

    assert whose(await log_in(client, "ann")) == "ann"
    assert len(origin.wires) == 2


# What is sent twice


@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
async def test_a_request_without_credentials_goes_to_a_new_connection_when_its_own_died(
    start_origin: StartOrigin, start_sidecar: StartSidecar, leave: Do
) -> None:
    origin = await start_origin((READ, NTLM_ASKED, READ, leave, STALL), (READ, NTLM_ASKED, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"retry": {"attempts": 2}})
    client = await sidecar.connect()
    await client.exchange(GOOD)

    assert (await client.exchange(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")).status == 401
    assert origin.lines == ["GET /good", "GET /again", "GET /again"]


@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
async def test_a_step_of_a_handshake_is_never_repeated_on_another_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar, leave: Do
) -> None:
    origin = await start_origin((READ, NTLM_ASKED, READ, leave, STALL), (READ, NTLM_ASKED, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"retry": {"attempts": 2}})
    client = await sidecar.connect()
    await client.exchange(GOOD)

    assert (await client.exchange(STEP)).status == 502
    assert origin.lines == ["GET /good", "GET /step"]
    assert (await client.exchange(GOOD)).status == 401, "a new handshake may begin"


@pytest.mark.parametrize("leave", [CLOSE, HALF_CLOSE, RESET], ids=["close", "half-close", "reset"])
async def test_a_first_step_on_a_pooled_connection_that_died_is_repeated(
    start_origin: StartOrigin, start_sidecar: StartSidecar, leave: Do
) -> None:
    origin = await start_origin((READ, OK, READ, leave, STALL), (READ, NTLM_ASKED, AGAIN))
    sidecar = await start_sidecar(origin, upstream={"retry": {"attempts": 2}})
    client = await sidecar.connect()
    assert (await client.exchange(GOOD)).status == 200

    assert (await client.exchange(STEP)).status == 401
    assert (await client.exchange(STEP)).status == 401
    assert origin.lines == ["GET /good", "GET /step", "GET /step", "GET /step"]
    assert len(origin.connections) == 2


# Slots


async def test_a_pinned_connection_takes_a_slot_and_gives_it_to_who_waits_while_it_is_idle(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    pool = {"max_connections": 2, "queue_timeout": "5s"}
    sidecar = await start_sidecar(origin.url, upstream={"pool": pool})
    clients = [await sidecar.connect() for _ in range(4)]
    for number, client in enumerate(clients):
        assert whose(await log_in(client, f"user{number}")) == f"user{number}"
        assert len(origin.standing) <= 2

    assert whose(await clients[3].exchange(request())) == "user3"
    assert whose(await clients[2].exchange(request())) == "user2"
    assert (await clients[0].exchange(request())).status == 401, "the one that was idle longest had to go"


async def test_a_pinned_connection_that_is_in_use_keeps_its_slot(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    pool = {"max_connections": 1, "queue_timeout": "100ms"}
    sidecar = await start_sidecar(origin.url, upstream={"pool": pool})
    client = await sidecar.connect()
    await log_in(client, "ann")
    origin.answer = lambda wire, fields, asked: None if asked.target == b"/slow" else origin.usual(wire, fields, asked)
    await client.send(request("/slow"))
    await eventually(lambda: "GET /slow" in origin.lines)

    assert (await sidecar.exchange(request())).status == 503
    origin.wires[0].transport.write(message("ann GET 0"))
    assert whose(await client.response()) == "ann"
    assert len(origin.wires) == 1


async def test_a_waiting_request_gets_the_slot_of_a_client_that_leaves(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    pool = {"max_connections": 1, "queue_timeout": "5s"}
    sidecar = await start_sidecar(origin.url, upstream={"pool": pool})
    client, other = await sidecar.connect(), await sidecar.connect()
    await log_in(client, "ann")
    origin.answer = lambda wire, fields, asked: None if asked.target == b"/slow" else origin.usual(wire, fields, asked)
    await client.send(request("/slow"))
    await eventually(lambda: "GET /slow" in origin.lines)
    await other.send(request("/open"))
    await turns(5)

    client.transport.abort()

    assert (await other.response()).body == b"anyone GET 0"


async def test_it_is_counted_among_the_upstream_s_connections(
    origin: AuthenticatingOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(origin.url)
    client = await sidecar.connect()
    await log_in(client, "ann")
    await sidecar.get("/open")
    seen = await sidecar.metrics()
    assert seen.total("sidecar_upstream_connections", state="idle") == 2
    assert seen.total("sidecar_upstream_connections", state="active") == 0

    client.transport.abort()
    await eventually(lambda: len(origin.standing) == 1)
    await turns(5)

    assert (await sidecar.metrics()).total("sidecar_upstream_connections", state="idle") == 1


# The circuit


async def test_a_handshake_may_be_the_probe_and_its_dead_connection_fails_it_once(start_origin: StartOrigin) -> None:
    failing = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    origin = await start_origin((READ, NTLM_ASKED, READ, failing, READ, CLOSE), (READ, NTLM_ASKED, AGAIN))
    breaker = {"failure_threshold": 1, "open_duration": "10s", "backoff": {"jitter": 0}, "success_threshold": 1}
    async with still_sidecar(origin, upstream={"breaker": breaker}) as sidecar:
        client = await sidecar.connect()
        assert [(await client.exchange(GOOD)).status for _ in range(2)] == [401, 503]
        sidecar.clock.advance(10)
        assert (await client.exchange(GOOD)).status == 502
        assert len(origin.requests) == 3
        assert await sidecar.state() == "open"
        sidecar.clock.advance(20)
        assert (await client.exchange(STEP)).status == 401
        assert await sidecar.state() == "closed"


# The end of the sidecar


async def test_a_drain_ends_idle_pinned_connections_and_lets_one_in_use_answer(
    origin: AuthenticatingOrigin, launch_sidecar: LaunchSidecar
) -> None:
    sidecar = await (await launch_sidecar(config_text(origin.url))).ready()
    idle, busy = await sidecar.connect(), await sidecar.connect()
    await log_in(idle, "ann")
    await log_in(busy, "bob")
    origin.answer = lambda _wire, _fields, _request: None
    await busy.send(request("/slow"))
    await eventually(lambda: "GET /slow" in origin.lines)

    sidecar.terminate()
    await eventually(lambda: len(origin.standing) == 1)
    origin.standing[0].transport.write(message("bob GET 0"))

    answer = await busy.response()
    assert (whose(answer), answer.get("connection")) == ("bob", b"close")
    await eventually(lambda: not origin.standing)
    assert await sidecar.exit_code() == 0
    assert "Traceback" not in sidecar.output
