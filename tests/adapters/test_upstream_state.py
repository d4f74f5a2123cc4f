"""The life of an upstream connection: each kind of exchange takes the way through the table that it should."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.upstream.connecting import Target
from sidecar.adapters.upstream.pool import EndpointPool
from sidecar.adapters.upstream.state import FOLLOWS, UNDER_WAY, State
from sidecar.app import RealClock
from sidecar.core.config import PoolSettings
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import ConnectionLost
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import UpstreamStats
from sidecar.pipeline.tasks import Tasks
from tests.support.client import GOOD
from tests.support.origin import CLOSE, GATE, OK, READ, READ_HEAD, RESET, STALL, Script, Slowly
from tests.support.wire import eventually, turns

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connection import UpstreamConnection
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.client import RawClient
    from tests.support.connection_states import StateRecorder
    from tests.support.origin import RawOrigin

CONNECTING, IDLE, SENDING, WAITING, EARLY, RECEIVING, TUNNEL, CLOSING, CLOSED = State
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
LEAVE = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of exchange: what the origin does, what the client sends, and the way that the connection goes."""

    script: Script
    sent: bytes
    way: tuple[State, ...]
    then: bytes | None = b""
    """What the client sends when it has an answer, or the origin a request; None: it leaves."""
    answered: bool = False
    """Whether `then` waits for an answer."""


KINDS = {
    "whole-at-once": Kind((READ, OK, STALL), GOOD, (WAITING, IDLE, CLOSING, CLOSED)),
    "left-while-idle": Kind((READ, OK, CLOSE), GOOD, (WAITING, IDLE, CLOSED)),
    "not-kept": Kind(
        (READ, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), STALL), GOOD, (WAITING, CLOSING, CLOSED)
    ),
    "body-in-pieces": Kind((READ, Slowly(OK, 0.001), STALL), GOOD, (WAITING, RECEIVING, IDLE, CLOSING, CLOSED)),
    "body-cut": Kind((READ, LONG, RESET), GOOD, (WAITING, RECEIVING, CLOSING, CLOSED)),
    "body-unwanted": Kind((READ, LONG, STALL), GOOD, (WAITING, RECEIVING, CLOSING, CLOSED), LEAVE, answered=True),
    "unanswered": Kind((READ, RESET), GOOD, (WAITING, CLOSING, CLOSED)),
    "client-leaves": Kind((READ, STALL), GOOD, (WAITING, CLOSING, CLOSED), LEAVE),
    "request-in-pieces": Kind((READ, OK, STALL), POST + b"ab", (SENDING, WAITING, IDLE, CLOSING, CLOSED), b"cd"),
    "client-leaves-sending": Kind((READ, STALL), POST + b"ab", (SENDING, CLOSING, CLOSED), LEAVE),
    "answered-early": Kind((READ_HEAD, OK, STALL), POST + b"ab", (SENDING, CLOSING, CLOSED)),
    "answer-began-early": Kind(
        (READ_HEAD, LONG, GATE, b"ok", STALL),
        POST + b"ab",
        (SENDING, EARLY, RECEIVING, IDLE, CLOSING, CLOSED),
        b"cd",
        answered=True,
    ),
    "early-answer-cut": Kind((READ_HEAD, LONG, RESET), POST + b"ab", (SENDING, EARLY, CLOSING, CLOSED)),
    "tunnel": Kind((READ, SWITCHING, STALL), UPGRADE, (WAITING, TUNNEL, CLOSING, CLOSED), LEAVE, answered=True),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
async def test_an_exchange_goes_its_way(
    start_origin: StartOrigin, start_sidecar: StartSidecar, connection_states: StateRecorder, kind: Kind
) -> None:
    origin = await start_origin(kind.script)
    sidecar = await start_sidecar(origin, upstream={"pool": {"keep_alive": "100ms"}})
    client = await sidecar.connect()

    await client.send(kind.sent)
    if kind.then != b"":
        await origin.until(lambda seen: seen.connections and seen.connections[0].received)
        if kind.answered:
            await client.head()
        await _go_on(client, origin, kind.then)
    await eventually(lambda: connection_states.lives and connection_states.lives[0][-1] is CLOSED)

    assert tuple(connection_states.lives[0]) == (CONNECTING, IDLE, *kind.way)


async def _go_on(client: RawClient, origin: RawOrigin, then: bytes | None) -> None:
    if then is None:
        client.transport.abort()
    else:
        await client.send(then)
        await origin.until(lambda seen: seen.connections[0].received.endswith(then))
        origin.gate.set()


async def test_a_refused_connection_never_stands(start_sidecar: StartSidecar, connection_states: StateRecorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sidecar = await start_sidecar(f"http://127.0.0.1:{port}")

    assert (await sidecar.get()).status == 502

    assert connection_states.lives == [[CONNECTING, CLOSED]]


def test_the_table_has_no_row_that_no_exchange_takes() -> None:
    ways = [(CONNECTING, IDLE, *kind.way) for kind in KINDS.values()]
    taken = {step for way in ways for step in pairwise(way)} | {(CONNECTING, CLOSED)}
    assert taken == {(before, after) for before, follow in FOLLOWS.items() for after in follow}


def test_the_table_ends_every_exchange() -> None:
    assert set(FOLLOWS) == set(State)
    assert not FOLLOWS[CLOSED]
    assert {before for before, follow in FOLLOWS.items() if CLOSED in follow} == {CONNECTING, IDLE, CLOSING}
    assert not any(CLOSED in FOLLOWS[state] for state in UNDER_WAY)


async def test_a_connection_that_ends_as_soon_as_it_stands_is_not_used(start_origin: StartOrigin) -> None:
    class Unlucky(EndpointPool):
        __slots__ = ()

        def connection_opened(self, connection: UpstreamConnection) -> None:
            super().connection_opened(connection)
            connection.connection_lost(None)
            connection.transport.abort()

    origin = await start_origin()
    tasks, clock = Tasks(), RealClock()
    runtime = Runtime(clock, DeadlineWheel(clock), tasks.spawn)
    pool = Unlucky(Target("127.0.0.1", origin.port), runtime, UpstreamStats("origin"), PoolSettings())

    async with asyncio.timeout(5.0):
        with pytest.raises(ConnectionLost, match="as soon as it stood"):
            await pool.connect(5.0)

    assert pool.in_flight == 0
    await turns(5)
