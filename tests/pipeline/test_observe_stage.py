"""Whatever way a request goes, it is counted, timed and logged exactly once, and then nothing of it is in flight."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

import pytest

from sidecar.pipeline.errors import CircuitOpen, ClientGone, ConnectionLost, FirstByteTimeout
from sidecar.pipeline.message import BodyEnd, Response
from sidecar.pipeline.observe_stage import Observer, ObserveStage
from sidecar.pipeline.record import ExchangeRecord
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import RouteStats
from tests.support.stages import ManualClock, Records, ScriptedHandler, ToldBody, request, response, sent_fields

if TYPE_CHECKING:
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Request

CUT = ConnectionLost("the upstream closed the connection")


class Scene:
    """The stage around a handler, and all that it told."""

    def __init__(self, outcome: Response | BaseException | None = None) -> None:
        self.clock = ManualClock()
        self.stats = RouteStats("catalog")
        log = Records()
        self.records = log.all
        self.inner = ScriptedHandler(outcome)
        self.stage = ObserveStage(self.inner, Observer(self.stats, log, self.clock, "edge"))

    async def ask(self, asked: Request | None = None) -> Response:
        """As the server does it, a quarter of a second after the request came."""
        self.clock.now += 0.25
        return await self.stage.handle(asked or request())

    @property
    def record(self) -> ExchangeRecord:
        assert len(self.records) == 1
        return self.records[0]

    def counted(self, status: int, source: str, method: str = "GET") -> bool:
        """Whether one request was counted, as this, and nothing is in flight."""
        return (
            dict(self.stats.requests) == {(method, status, source): 1}
            and sum(self.stats.durations.counts) == len(self.records) == 1
            and self.stats.in_flight == 0
        )


# Answers


async def test_a_whole_answer_is_over_when_it_is_given() -> None:
    answer, asked = response(204, b"content"), request()
    asked.asked, asked.upstream_time = "10.0.0.1:80", 0.125
    scene = Scene(answer)
    assert await scene.ask(asked) is answer
    assert scene.counted(204, "upstream")
    assert scene.record == ExchangeRecord(
        "catalog", "GET", b"/items", 204, "upstream", 0.25, len(b"content"), b"r-1", "10.0.0.9",
        upstream_time=0.125, endpoint="10.0.0.1:80", headers=asked.head.headers, answered=answer.head.headers,
    )  # fmt: skip


@pytest.mark.parametrize("source", [Source.CACHE, Source.STALE, Source.UPSTREAM], ids=lambda source: source.label)
async def test_an_answer_counts_under_its_source_and_says_that_it_passed_here(source: Source) -> None:
    answer = response()
    answer.source, answer.extra = source, b"Age: 3\r\n"
    scene = Scene(answer)
    await scene.ask()
    assert scene.counted(200, source.label)
    assert answer.extra == b"Age: 3\r\nVia: 1.1 edge\r\n"


async def test_an_answer_is_in_flight_while_it_is_waited_for() -> None:
    scene = Scene(response())
    scene.inner.gate = asyncio.Event()
    waiting = asyncio.ensure_future(scene.ask())
    await asyncio.sleep(0)
    assert (scene.stats.in_flight, scene.records) == (1, [])
    scene.inner.gate.set()
    await waiting
    assert scene.counted(200, "upstream")


async def test_a_method_of_ones_own_counts_as_other_and_is_logged_as_it_is() -> None:
    scene = Scene(response())
    await scene.ask(request(method="PURGE"))
    assert scene.counted(200, "upstream", "_OTHER")
    assert scene.record.method == "PURGE"


async def test_nobody_needs_to_read_the_log() -> None:
    stats = RouteStats("catalog")
    stage = ObserveStage(ScriptedHandler(response()), Observer(stats, None, ManualClock(), "edge"))
    await stage.handle(request())
    assert dict(stats.requests) == {("GET", 200, "upstream"): 1}


# Refusals and failures


@pytest.mark.parametrize(
    ("error", "status", "source"),
    [
        (CircuitOpen("the circuit is open", retry_after=3.0), 503, "circuit"),
        (FirstByteTimeout("too slow"), 504, "error"),
        (ClientGone("the client broke its request off"), 400, "error"),
    ],
    ids=["refused", "failed", "broken off"],
)
async def test_an_error_becomes_the_answer(error: ProxyError, status: int, source: str) -> None:
    scene = Scene(error)
    answer = await scene.ask()
    assert (answer.head.status, answer.error) == (status, error)
    assert scene.counted(status, source)
    assert (scene.record.reason, scene.record.detail, scene.record.aborted) == (error.reason, error.detail, False)
    assert isinstance(answer.body, bytes)
    assert scene.record.bytes_sent == len(answer.body)


async def test_an_answer_of_the_sidecars_own_did_not_come_this_way() -> None:
    answer = await Scene(CircuitOpen("open")).ask()
    assert b"via" not in sent_fields(answer)
    assert sent_fields(answer).get(b"proxy-status") == b"edge; error=destination_unavailable"


async def test_a_defect_is_a_500_that_tells_nothing_and_a_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    defect = ZeroDivisionError("a secret")
    scene = Scene(defect)
    with caplog.at_level(logging.ERROR):
        answer = await scene.ask()
    assert scene.counted(500, "error")
    assert scene.record.reason == "internal_error"
    assert isinstance(answer.body, bytes)
    assert "secret" not in json.loads(answer.body)["detail"]
    (logged,) = caplog.records
    assert logged.exc_info is not None
    assert logged.exc_info[1] is defect
    assert (logged.__dict__["route"], logged.__dict__["request_id"]) == ("catalog", "r-1")


async def test_a_client_that_leaves_before_the_answer_counts_as_499_and_cancellation_goes_on() -> None:
    scene = Scene(response())
    scene.inner.gate = asyncio.Event()
    asked = request(method="PURGE")
    asked.asked = "10.0.0.1:80"
    waiting = asyncio.ensure_future(scene.ask(asked))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert scene.counted(499, "error", "_OTHER")
    assert scene.record == ExchangeRecord(
        "catalog", "PURGE", b"/items", 499, "error", 0.25, 0, b"r-1", "10.0.0.9",
        endpoint="10.0.0.1:80", headers=asked.head.headers,
        reason="client_gone", detail="the client left before the answer", aborted=True,
    )  # fmt: skip


async def test_a_client_that_leaves_counts_without_a_log_too() -> None:
    stats = RouteStats("catalog")
    stage = ObserveStage(ScriptedHandler(asyncio.CancelledError()), Observer(stats, None, ManualClock(), "edge"))
    with pytest.raises(asyncio.CancelledError):
        await stage.handle(request())
    assert (dict(stats.requests), stats.in_flight) == ({("GET", 499, "error"): 1}, 0)


# Streamed answers


@pytest.mark.parametrize(
    ("end", "reason", "aborted"),
    [(BodyEnd.COMPLETE, "", False), (CUT, "connection_terminated", True), (BodyEnd.ABANDONED, "client_gone", True)],
    ids=["complete", "cut", "abandoned"],
)
async def test_a_streamed_answer_is_over_when_its_body_ends(
    end: BodyEnd | ProxyError, reason: str, *, aborted: bool
) -> None:
    body = ToldBody()
    answer = response(206, body)
    scene = Scene(answer)
    await scene.ask()
    assert (scene.stats.in_flight, scene.records) == (1, [])
    for piece in (b"abc", b"de"):
        body.pass_on(piece)
    scene.clock.now += 2.0
    body.end_with(end)
    body.close()
    assert scene.counted(206, "upstream")
    record = scene.record
    assert (record.duration, record.bytes_sent) == (2.25, 5)
    assert (record.reason, record.aborted, bool(record.detail)) == (reason, aborted, aborted)
    assert answer.extra == b"Via: 1.1 edge\r\n"


async def test_a_streamed_answer_that_is_over_already_counts_at_once() -> None:
    body = ToldBody()
    body.end_with(BodyEnd.COMPLETE)
    scene = Scene(response(200, body))
    await scene.ask()
    assert scene.counted(200, "upstream")


async def test_requests_at_the_same_time_are_counted_apart() -> None:
    bodies = [ToldBody() for _ in range(3)]
    scene = Scene()
    for body in bodies:
        scene.inner.outcome = response(200, body)
        await scene.ask()
    assert scene.stats.in_flight == 3
    for left, body in zip((2, 1, 0), bodies, strict=True):
        body.close()
        assert scene.stats.in_flight == left
    assert scene.stats.requests["GET", 200, "upstream"] == len(scene.records) == 3
