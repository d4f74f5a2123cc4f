"""The life of a client connection, step by step, against its table; and that the table holds no step nobody takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import pytest

from sidecar.adapters.server.connection import ClientConnection
from sidecar.adapters.server.context import ServerContext
from sidecar.adapters.server.phases import FOLLOWS, ClientSide, Phase
from sidecar.core.config import ClientLimits
from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import ConnectionLost, Draining
from sidecar.pipeline.message import Duplex, End, Request, Response
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import ListenerStats
from sidecar.pipeline.tasks import Tasks
from tests.support.phases import LEGAL, watched
from tests.support.stages import ManualClock
from tests.support.wire import turns

WAITING, HEAD, QUEUED, ANSWERING, TUNNEL, LINGERING, CLOSING, CLOSED = Phase

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PART = GET[:12]
MALFORMED = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Remembers what it is told. Unlike a real one it tells of its end only when the test does."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class FakeDuplex(Duplex):
    """An upstream that has switched protocols."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__(None)
        self.said: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.said.get()

    async def send(self, data: bytes) -> None:  # noqa: ARG002 - it takes nothing
        raise ConnectionLost("the upstream is gone")

    def send_eof(self) -> None:
        pass

    def _release(self, end: End) -> None:
        pass


class Driven:
    """A client connection whose transport, handler and clock are the test's."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        self.clock = ManualClock()
        self.wheel = DeadlineWheel(self.clock)
        self.tasks = Tasks()
        self.duplex = FakeDuplex()
        self.asked: list[asyncio.Future[Response]] = []
        runtime = Runtime(self.clock, self.wheel, self.tasks.spawn)
        context = ServerContext(
            self,
            limits or ClientLimits(pipeline_depth=2),
            ListenerStats(),
            runtime,
            start=self.tasks.start,
            access_log=None,
            via="edge",
        )
        self.transport = FakeTransport()
        self.connection = ClientConnection(context)
        self.connection.connection_made(self.transport)

    async def handle(self, request: Request) -> Response:  # noqa: ARG002 - any is answered when the test says so
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def sends(self, data: bytes) -> None:
        self.connection.data_received(data)

    def ends(self) -> None:
        if not self.connection.eof_received():
            self.transport.close()

    def leaves(self) -> None:
        self.connection.connection_lost(None)

    def stops_reading(self) -> None:
        self.connection.pause_writing()

    def reads_on(self) -> None:
        self.connection.resume_writing()

    def answer(self) -> None:
        self.asked.pop().set_result(Response(ResponseHead(200, Headers()), b"ok"))

    def fail(self) -> None:
        self.asked.pop().set_exception(ConnectionLost("the upstream is gone"))

    def switch(self) -> None:
        self.asked.pop().set_result(Response(ResponseHead(101, Headers()), self.duplex))

    def upstream_ends(self) -> None:
        self.duplex.said.put_nowait(b"")

    def drain(self) -> None:
        self.connection.shut()

    def cut(self) -> None:
        self.connection.cut(Draining("the sidecar stops"))

    def wait(self, seconds: float = 10_000) -> None:
        """By itself as long as any deadline is."""
        self.clock.now += seconds
        self.wheel.turn()

    async def stop(self) -> None:
        if self.connection.phase is not CLOSED:
            self.leaves()
        await turns(5)
        self.wheel.close()


Action: TypeAlias = Callable[[Driven], None]


def sends(data: bytes) -> Action:
    return partial(Driven.sends, data=data)


ENDS, LEAVES, STOPS_READING, READS_ON = Driven.ends, Driven.leaves, Driven.stops_reading, Driven.reads_on
ANSWER, FAIL, SWITCH, UPSTREAM_ENDS = Driven.answer, Driven.fail, Driven.switch, Driven.upstream_ends
DRAIN, CUT, WAIT = Driven.drain, Driven.cut, Driven.wait


@dataclass(frozen=True)
class Life:
    """What happens to a connection, and the phases that it enters after WAITING; in the end its transport goes."""

    actions: tuple[Action, ...]
    phases: tuple[Phase, ...]


LIVES = {
    "one request": Life((sends(GET), ANSWER, WAIT), (ANSWERING, WAITING, CLOSING, CLOSED)),
    "the last request": Life((sends(LAST), ANSWER), (ANSWERING, CLOSING, CLOSED)),
    "nobody asks": Life((LEAVES,), (CLOSED,)),
    "the client ends at once": Life((ENDS,), (CLOSING, CLOSED)),
    "the drain meets it at rest": Life((DRAIN,), (CLOSING, CLOSED)),
    "the drain meets an answer": Life((sends(GET), DRAIN, ANSWER), (ANSWERING, CLOSING, CLOSED)),
    "the end of the drain": Life((sends(GET), DRAIN, CUT), (ANSWERING, CLOSING, CLOSED)),
    "a head in two parts": Life((sends(PART), sends(GET[12:]), LEAVES), (HEAD, ANSWERING, CLOSED)),
    "a head in parts and more": Life((sends(PART), sends(GET[12:] + GET)), (HEAD, QUEUED, ANSWERING, CLOSED)),
    "a head that does not end": Life((sends(PART), WAIT, WAIT), (HEAD, LINGERING, CLOSING, CLOSED)),
    "a head that the client breaks off": Life((sends(PART), ENDS), (HEAD, CLOSING, CLOSED)),
    "a client that leaves amid its head": Life((sends(PART), LEAVES), (HEAD, CLOSED)),
    "no request": Life((sends(MALFORMED), sends(GET), ENDS), (QUEUED, LINGERING, CLOSING, CLOSED)),
    "no request, and gone": Life((sends(MALFORMED), LEAVES), (QUEUED, LINGERING, CLOSED)),
    "no request, and the drain": Life((sends(MALFORMED), DRAIN, WAIT), (QUEUED, LINGERING, CLOSING, CLOSED)),
    "pipelined": Life((sends(GET + GET), ANSWER, ANSWER), (QUEUED, ANSWERING, QUEUED, ANSWERING, WAITING, CLOSED)),
    "more than may be parsed ahead": Life(
        (sends(GET), sends(GET * 3), sends(GET), *[ANSWER] * 5),
        (ANSWERING, *[QUEUED, ANSWERING] * 4, WAITING, CLOSED),
    ),
    "part of a head behind a slow answer": Life(
        (sends(GET + PART), WAIT, ANSWER, WAIT), (ANSWERING, HEAD, LINGERING, CLOSED)
    ),
    "a request and part of a head": Life((sends(GET + PART), ANSWER), (ANSWERING, HEAD, CLOSED)),
    "pipelined refusal": Life(
        (sends(GET + MALFORMED), ANSWER, WAIT), (QUEUED, ANSWERING, QUEUED, LINGERING, CLOSING, CLOSED)
    ),
    "pipelined refusal of a closed side": Life(
        (sends(GET + MALFORMED), ENDS, ANSWER), (QUEUED, ANSWERING, QUEUED, CLOSING, CLOSED)
    ),
    "an answer that is not read": Life(
        (sends(GET), STOPS_READING, ANSWER, sends(GET), READS_ON), (ANSWERING, WAITING, QUEUED, ANSWERING, CLOSED)
    ),
    "an answer that is never read": Life(
        (sends(GET + GET), STOPS_READING, ANSWER, WAIT), (QUEUED, ANSWERING, QUEUED, CLOSING, CLOSED)
    ),
    "an answer that is not read by who leaves": Life(
        (sends(GET + GET), STOPS_READING, ANSWER, LEAVES), (QUEUED, ANSWERING, QUEUED, CLOSED)
    ),
    "an answer that breaks off": Life((sends(GET), FAIL), (ANSWERING, CLOSING, CLOSED)),
    "an answer before the content": Life((sends(UPLOAD), ANSWER, WAIT), (ANSWERING, LINGERING, CLOSING, CLOSED)),
    "a closed side": Life((sends(GET), ENDS, ANSWER), (ANSWERING, CLOSING, CLOSED)),
    "a closed side that waits too long": Life((sends(GET), ENDS, WAIT), (ANSWERING, CLOSING, CLOSED)),
    "a refused switch": Life((sends(UPGRADE), ANSWER), (ANSWERING, WAITING, CLOSED)),
    "a refused switch, a request, a closed side": Life(
        (sends(UPGRADE + GET), ENDS, ANSWER, ANSWER), (ANSWERING, QUEUED, ANSWERING, CLOSING, CLOSED)
    ),
    "a refused switch, part of a head, a closed side": Life(
        (sends(UPGRADE + PART), ENDS, ANSWER), (ANSWERING, HEAD, CLOSING, CLOSED)
    ),
    "a tunnel that both end": Life((sends(UPGRADE), SWITCH, ENDS, UPSTREAM_ENDS), (ANSWERING, TUNNEL, CLOSING, CLOSED)),
    "a tunnel at rest": Life((sends(UPGRADE), SWITCH, WAIT), (ANSWERING, TUNNEL, CLOSING, CLOSED)),
    "a tunnel whose client leaves": Life((sends(UPGRADE), SWITCH, LEAVES), (ANSWERING, TUNNEL, CLOSED)),
    "a tunnel whose upstream takes no more": Life(
        (sends(UPGRADE), SWITCH, UPSTREAM_ENDS, sends(b"abc")), (ANSWERING, TUNNEL, LINGERING, CLOSED)
    ),
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())
async def test_a_connection_goes_through_its_phases(no_task_leaks: None, life: Life) -> None:  # noqa: ARG001
    entered: list[Phase] = [WAITING]
    with watched(lambda step: entered.append(step[1])):
        driven = Driven()
        for action in life.actions:
            action(driven)
            await turns(5)
        await driven.stop()
    assert entered[1:] == [*life.phases]


def test_every_step_of_the_table_is_taken_and_no_other() -> None:
    taken = {step for life in LIVES.values() for step in pairwise((WAITING, *life.phases))}
    assert taken == LEGAL


def test_each_phase_has_its_row_and_each_step_its_event() -> None:
    assert list(FOLLOWS) == list(Phase)
    assert all(event for followers in FOLLOWS.values() for event in followers.values())


@pytest.mark.parametrize("actions", [(sends(GET), FAIL), (sends(GET), CUT), (DRAIN,)], ids=["fail", "cut", "drain"])
async def test_what_arrives_while_it_closes_is_no_request(actions: tuple[Action, ...]) -> None:
    driven = Driven()
    for action in actions:
        action(driven)
        await turns(5)
    driven.asked.clear()
    driven.sends(GET)
    await turns(5)
    assert driven.asked == []
    assert driven.connection.phase is CLOSING
    await driven.stop()


async def test_only_a_connection_at_rest_makes_room_for_another() -> None:
    driven = Driven()
    idle = [driven.connection.idle]
    for action in (sends(PART), sends(GET[12:]), ANSWER):
        action(driven)
        await turns(5)
        idle.append(driven.connection.idle)
    assert idle == [True, False, False, True]
    await driven.stop()


async def test_the_side_of_a_client_ends_and_is_all_read_when_nothing_waits_to_be_parsed() -> None:
    driven = Driven()
    sides = []
    for action in (sends(GET * 3), sends(GET * 2), ENDS, ANSWER):
        action(driven)
        await turns(5)
        sides.append(driven.connection.client_side)
    assert sides == [ClientSide.OPEN, ClientSide.OPEN, ClientSide.ENDED, ClientSide.ALL_READ]
    await driven.stop()


async def test_a_client_that_has_to_read_first_owes_no_request() -> None:
    driven = Driven(ClientLimits(keep_alive=1.0, head_timeout=1.0, write_timeout=100.0))
    for action in (sends(GET + GET), STOPS_READING, ANSWER, partial(Driven.wait, seconds=50)):
        action(driven)
        await turns(5)
    assert driven.connection.phase is QUEUED
    driven.reads_on()
    await turns(5)
    assert driven.connection.phase is ANSWERING
    await driven.stop()


async def test_the_time_for_a_head_begins_when_the_answer_before_it_has_ended() -> None:
    driven = Driven(ClientLimits(head_timeout=10.0))
    for action in (sends(GET + PART), partial(Driven.wait, seconds=9), ANSWER, partial(Driven.wait, seconds=9)):
        action(driven)
        await turns(5)
    assert driven.connection.phase is HEAD
    driven.wait(2)
    assert driven.connection.phase is Phase.LINGERING
    await driven.stop()
