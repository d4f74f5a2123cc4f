from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from sidecar.adapters.server.context import ServerContext
from sidecar.core.config import ClientLimits
from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import BadRequest
from sidecar.pipeline.message import Response
from sidecar.pipeline.record import refusal_record
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import ListenerStats
from sidecar.pipeline.tasks import Tasks
from tests.support.stages import ManualClock, Records, ScriptedHandler, request

if TYPE_CHECKING:
    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.pipeline.record import AccessLog


class FakeConnection:
    """What the context asks of a connection."""

    def __init__(self, *, idle: bool = True) -> None:
        self.idle = idle
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


def connections(count: int, *, idle: bool = True) -> list[ClientConnection]:
    return [cast("ClientConnection", FakeConnection(idle=idle)) for _ in range(count)]


def context(limit: int = 10, log: AccessLog | None = None) -> tuple[ServerContext, ManualClock]:
    clock, tasks = ManualClock(), Tasks()
    runtime = Runtime(clock, DeadlineWheel(clock), tasks.spawn)
    limits = ClientLimits(connections=limit)
    context = ServerContext(
        ScriptedHandler(), limits, ListenerStats(), runtime, start=tasks.start, access_log=log, via="edge"
    )
    return context, clock


def resets(made: list[ClientConnection]) -> list[int]:
    return [cast("Any", one).resets for one in made]


async def test_connections_are_counted_until_they_are_gone() -> None:
    shared, _ = context()
    first, second = connections(2)
    assert shared.empty.is_set()
    assert shared.admit(first)
    assert shared.admit(second)
    assert (shared.stats.connections, shared.connections()) == (2, [first, second])
    shared.dismiss(first)
    shared.dismiss(first)
    assert not shared.empty.is_set()
    shared.dismiss(second)
    assert (shared.stats.connections, shared.empty.is_set()) == (0, True)


async def test_at_the_limit_the_one_idle_longest_makes_room() -> None:
    shared, _ = context(3)
    (busy,), idle = connections(1, idle=False), connections(3)
    for one in (busy, *idle):
        assert shared.admit(one)
    assert resets([busy, *idle]) == [0, 1, 0, 0]
    assert shared.stats.shed == 1
    assert shared.connections() == [busy, *idle[1:]]


async def test_a_connection_that_comes_to_rest_is_the_youngest_of_the_idle() -> None:
    shared, _ = context(2)
    first, second, third = connections(3)
    shared.admit(first)
    shared.admit(second)
    shared.rested(first)
    shared.admit(third)
    assert resets([first, second, third]) == [0, 1, 0]
    shared.rested(second)
    assert shared.connections() == [first, third]


async def test_far_from_the_limit_their_order_is_not_kept() -> None:
    shared, _ = context(100)
    first, second = connections(2)
    shared.admit(first)
    shared.admit(second)
    shared.rested(first)
    assert shared.connections() == [first, second]


async def test_when_all_are_busy_a_new_one_is_not_taken_in() -> None:
    shared, _ = context(2)
    for one in connections(2, idle=False):
        shared.admit(one)
    assert not shared.admit(connections(1)[0])
    assert (shared.stats.connections, shared.stats.shed) == (2, 0)


async def test_request_ids_differ_within_a_process_and_across() -> None:
    (one, _), (other, _) = context(), context()
    made = [one.request_id() for _ in range(1000)]
    assert len({*made, *(other.request_id() for _ in range(1000))}) == 2000
    assert len({request_id.split(b"-")[0] for request_id in made}) == 1


async def test_the_date_is_made_once_a_second() -> None:
    shared, clock = context()
    clock.now = 0.5
    first = shared.date_line()
    assert first == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    clock.now = 0.9
    assert shared.date_line() is first
    clock.now = 1.0
    assert shared.date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


async def test_what_no_route_has_seen_is_counted_and_logged() -> None:
    log = Records()
    shared, _ = context(log=log)
    record = refusal_record(BadRequest("what?"), "10.0.0.9", 120, ("GET", b"/?"))
    shared.refused(record)
    assert dict(shared.stats.rejected) == {"bad_request": 1}
    assert log.all == [record]


async def test_it_is_counted_without_a_log_too() -> None:
    shared, _ = context()
    shared.refused(refusal_record(BadRequest("what?"), "", 0, ("", b"")))
    assert shared.stats.rejected == {"bad_request": 1}


async def test_an_answer_made_here_is_logged_as_no_error() -> None:
    log = Records()
    shared, clock = context(log=log)
    asked = request(b"*", "OPTIONS")
    clock.now = asked.started + 0.5
    answer = Response(ResponseHead(200, Headers()), b"", source=Source.SIDECAR)
    shared.answered_here(asked, answer)
    context()[0].answered_here(asked, answer)
    (one,) = log.all
    assert (one.route, one.method, one.target, one.status, one.source) == ("", "OPTIONS", b"*", 200, "sidecar")
    assert (one.duration, one.bytes_sent, one.request_id, one.reason) == (0.5, 0, b"r-1", "")
    assert dict(shared.stats.rejected) == {}


async def test_whoever_waits_for_the_last_connection_is_told() -> None:
    shared, _ = context()
    (one,) = connections(1)
    shared.admit(one)
    waiting = asyncio.ensure_future(shared.empty.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    shared.dismiss(one)
    async with asyncio.timeout(5):
        assert await waiting
