from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core.circuit.explanation import Sample
from sidecar.core.config import BreakerMode
from sidecar.core.http.heads import Headers, RequestHead, ResponseHead
from sidecar.pipeline.breaker_stage import BreakerStage
from sidecar.pipeline.errors import (
    BadRequest,
    CircuitOpen,
    ClientGone,
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    DnsFailed,
    EarlyAnswerCut,
    FirstByteTimeout,
    IdleTimeout,
    PoolExhausted,
    ProtocolError,
    ProxyError,
    TlsFailed,
    TotalTimeout,
)
from sidecar.pipeline.message import Body, BodyEnd, Request, Response
from tests.support.circuits import SETTINGS, Bench

WALL = 784_111_777.0


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now


class FakeBody(Body):
    """A body that ends when the test says so."""

    __slots__ = ()

    def end_with(self, end: BodyEnd | ProxyError) -> None:
        self._finish(end)


class FakeUpstream:
    """Answers from a script; counts what reaches it."""

    def __init__(self, clock: FakeClock, *script: Response | BaseException) -> None:
        self.clock = clock
        self.script = list(script)
        self.reached = 0
        self.hit = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def handle(self, request: Request) -> Response:
        self.reached += 1
        request.sent(self.clock.now)
        self.hit.set()
        if self.gate is not None:
            await self.gate.wait()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, BaseException):
            raise step
        return step


class Scene:
    """A stage with its circuit, clock and upstream."""

    def __init__(self, *script: Response | BaseException, **changes: object) -> None:
        self.clock = FakeClock()
        self.bench = Bench(**changes)
        self.upstream = FakeUpstream(self.clock, *script)
        self.stage = BreakerStage(self.upstream, self.bench.circuit, self.clock)

    @property
    def calls(self) -> dict[str, int]:
        """How requests ended, as far as any did."""
        return {outcome: count for outcome, count in self.bench.circuit.counters.calls.items() if count}

    async def ask(self, method: str = "GET", target: bytes = b"/items?key=1") -> Response:
        return await self.stage.handle(request(method, target))

    async def trip(self) -> None:
        """Fail until the circuit opens, then leave the upstream healthy."""
        healthy, self.upstream.script = self.upstream.script, [ConnectionRefused()]
        while self.bench.state == "closed":
            with pytest.raises(ConnectionRefused):
                await self.ask()
        self.upstream.script = healthy
        self.upstream.reached = 0


def request(method: str = "GET", target: bytes = b"/items?key=1") -> Request:
    return Request(RequestHead(method, target, Headers()), b"", request_id=b"r-1", started=0.0)


def response(status: int = 200, body: bytes | Body = b"", **fields: str) -> Response:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Response(ResponseHead(status, Headers(lines)), body)


# breaker.md §1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "success"), (204, "success"), (304, "success"), (404, "success"), (500, "failure"), (501, "success"),
        (502, "failure"), (503, "failure"), (504, "failure"), (429, "throttled"), (418, "ignored"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_status_decides_the_outcome_when_the_body_has_arrived(
    status: int,
    outcome: str,
    streamed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    body = FakeBody(None)
    scene = Scene(response(status, body if streamed else b"x"), ignore=frozenset({418}))
    await scene.ask()
    if streamed:
        assert scene.calls == {}
        body.end_with(BodyEnd.COMPLETE)
    assert scene.calls == {outcome: 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefused(), "failure"), (ConnectionLost(), "failure"), (DnsFailed(), "failure"),
        (TlsFailed(), "failure"), (ConnectTimeout(), "failure"), (FirstByteTimeout(), "failure"),
        (IdleTimeout(), "failure"), (TotalTimeout(), "failure"), (ProtocolError(), "failure"),
        (ClientGone(), "cancelled"), (PoolExhausted(), "not_sent"), (BadRequest(), "not_sent"),
        (asyncio.CancelledError(), "cancelled"), (ZeroDivisionError(), "not_sent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)  # fmt: skip
async def test_what_is_raised_decides_the_outcome_and_is_passed_on(error: BaseException, outcome: str) -> None:
    scene = Scene(error)
    with pytest.raises(type(error)) as raised:
        await scene.stage.handle(request())
    assert raised.value is error
    assert scene.calls == {outcome: 1}


@pytest.mark.parametrize(
    ("status", "end", "outcome"),
    [
        (200, ConnectionLost(), "failure"),
        (500, ConnectionLost(), "failure"),
        (200, IdleTimeout(), "failure"),
        (413, EarlyAnswerCut(), "success"),
        (503, EarlyAnswerCut(), "failure"),
        (200, ClientGone(), "cancelled"),
        (200, BodyEnd.ABANDONED, "cancelled"),
        (500, BodyEnd.ABANDONED, "cancelled"),
        (200, BodyEnd.DISCARDED, "success"),
        (500, BodyEnd.DISCARDED, "failure"),
    ],
    ids=[
        "cut",
        "failing status and cut",
        "stalled",
        "early",
        "early failure",
        "client gone",
        "abandoned",
        "failing status and abandoned",
        "discarded",
        "failing status and discarded",
    ],
)
async def test_a_body_that_is_not_read_to_its_end_is_one_outcome(
    status: int, end: BodyEnd | ProxyError, outcome: str
) -> None:
    body = FakeBody(None)
    scene = Scene(response(status, body))
    await scene.ask()
    body.end_with(end)
    body.close()
    assert scene.calls == {outcome: 1}


async def test_a_switched_protocol_settles_at_its_head() -> None:
    body = FakeBody(None)
    scene = Scene(response(101, body))
    await scene.ask()
    assert scene.calls == {"success": 1}
    body.end_with(ConnectionLost())
    assert scene.calls == {"success": 1}


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "success"), (503, "failure"), (429, "throttled"), (418, "ignored")]
)
@pytest.mark.parametrize(
    "media_type", ["text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace", "video/mp4"]
)
@pytest.mark.parametrize(
    "end", [ConnectionLost(), BodyEnd.COMPLETE, BodyEnd.ABANDONED], ids=["cut", "complete", "abandoned"]
)
async def test_a_body_that_flows_on_settles_by_its_head_after_probe_timeout(
    status: int, outcome: str, media_type: str, end: BodyEnd | ProxyError
) -> None:
    body = FakeBody(None)
    scene = Scene(response(status, body, content_type=media_type), ignore=frozenset({418}))
    await scene.ask()
    scene.clock.now = 4.9
    scene.bench.circuit.tick(4.9)
    assert scene.calls == {}
    scene.clock.now = 5.0
    scene.bench.circuit.tick(5.0)
    assert scene.calls == {outcome: 1}
    body.end_with(end)
    assert scene.calls == {outcome: 1}


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/x-ndjson"])
async def test_a_body_that_is_cut_before_that_is_a_failure_whatever_its_type(media_type: str) -> None:
    body = FakeBody(None)
    scene = Scene(response(200, body, content_type=media_type))
    await scene.trip()
    scene.clock.now = 10.0
    await scene.ask()
    scene.clock.now = 14.9
    body.end_with(ConnectionLost())
    assert scene.bench.steps[-1] == ("half_open", "open", "probe_failed")


async def test_endless_answers_close_the_circuit_and_the_last_probe_is_told() -> None:
    scene = Scene(success_threshold=2)
    scene.upstream.script = [response(200, FakeBody(None)) for _ in range(9)]
    await scene.trip()
    for probe in range(2):
        scene.clock.now = 10.0 + 5.0 * probe
        await scene.ask()
        with pytest.raises(CircuitOpen, match="under way"):
            await scene.ask()
    scene.clock.now = 20.0
    await scene.ask()
    assert scene.bench.state == "closed"
    last = scene.bench.circuit.snapshot(20.0).last_probe
    assert last is not None
    assert last.sample == Sample(WALL + 20.0, "r-1", "GET", "/items", 200, None, 5.0)


@pytest.mark.parametrize("watched", [False, True], ids=["only counted", "may open it"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_slow_is_measured_from_when_the_request_was_sent(
    watched: bool,  # noqa: FBT001 - a column of the table
    streamed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    body = FakeBody(None)
    scene = Scene(response(200, body if streamed else b"x"), slow_rate=0.5 if watched else None, slow_after=1.0)

    async def after_an_upload(request: Request) -> Response:
        scene.clock.now += 60.0
        request.sent(scene.clock.now)
        scene.clock.now += next(takes)
        return scene.upstream.script[0]  # type: ignore[return-value]  # there are only responses

    scene.upstream.handle = after_an_upload  # type: ignore[method-assign]  # its upload is what this is about
    takes = iter((1.0, 1.5))
    await scene.ask("POST")
    await scene.ask("POST")
    if streamed:
        body.end_with(BodyEnd.COMPLETE)
    assert scene.calls == {"success": 2, "slow": 1}


async def test_slow_is_measured_to_the_head() -> None:
    body = FakeBody(None)
    scene = Scene(response(200, body))
    await scene.ask()
    scene.clock.now = 60.0
    body.end_with(BodyEnd.COMPLETE)
    assert scene.calls == {"success": 1}


@pytest.mark.parametrize(
    ("left", "total", "outcome"),
    [
        (0.02, None, "cancelled"),
        (-0.02, None, "cancelled"),
        (0.02, 60.0, "cancelled"),
        (0.02, 10.0, "failure"),
        (0.05, None, "failure"),
        (-0.05, None, "failure"),
    ],
)
@pytest.mark.parametrize("answer", [504, ConnectionLost("reset")], ids=["504", "reset"])
async def test_an_upstream_that_gives_up_when_the_clients_time_is_over_is_not_blamed(
    answer: int | ConnectionLost, left: float, total: float | None, outcome: str
) -> None:
    """The deadline is 10 s after the request; a `total` of 10 s makes it the route's own."""
    scene = Scene(response(answer) if isinstance(answer, int) else answer)
    stage = BreakerStage(scene.upstream, scene.bench.circuit, scene.clock, total)
    asked = request()
    asked.deadline = asked.started + 10.0
    scene.clock.now = asked.deadline - left
    await asyncio.gather(stage.handle(asked), return_exceptions=True)
    assert scene.calls == {outcome: 1}


@pytest.mark.parametrize("answer", [503, ConnectionRefused("refused")], ids=["503", "refused"])
async def test_what_no_deadline_explains_is_a_failure(answer: int | ConnectionRefused) -> None:
    scene = Scene(response(answer) if isinstance(answer, int) else answer)
    asked = request()
    scene.clock.now = asked.deadline = asked.started + 10.0
    await asyncio.gather(scene.stage.handle(asked), return_exceptions=True)
    assert scene.calls == {"failure": 1}


# Refusing


async def test_an_open_circuit_refuses_and_says_why() -> None:
    scene = Scene(response())
    await scene.trip()
    scene.clock.now = 2.5
    with pytest.raises(CircuitOpen) as refused:
        await scene.stage.handle(request())
    assert refused.value.detail == (
        "the circuit is open: 3 consecutive failures, failure_threshold is 3; ask again in 8 s"
    )
    assert refused.value.retry_after == 8.0
    assert (scene.upstream.reached, scene.bench.circuit.counters.rejected) == (0, 1)


async def test_an_unsafe_method_leaves_the_probe_to_a_safe_one() -> None:
    scene = Scene(response())
    await scene.trip()
    scene.clock.now = 9.0
    with pytest.raises(CircuitOpen):
        await scene.ask("GET")
    scene.clock.now = 10.0
    with pytest.raises(CircuitOpen, match="safe method"):
        await scene.ask("POST")
    await scene.ask("GET")
    assert scene.bench.state == "closed"


async def test_a_breaker_that_is_off_passes_everything() -> None:
    scene = Scene(response(500), mode=BreakerMode.OFF)
    for _ in range(20):
        await scene.ask()
    assert scene.upstream.reached == 20


# Retry-After, samples


@pytest.mark.parametrize(
    ("status", "value", "period"),
    [
        (503, "40", 40.0),
        (503, "Sun, 06 Nov 1994 08:50:17 GMT", 40.0),
        (503, "3", 10.0),
        (503, "-40", 10.0),
        (503, "9" * 400, 100.0),
        (500, "40", 40.0),
        (502, "40", 40.0),
        (504, "Sun, 06 Nov 1994 08:50:17 GMT", 40.0),
        (404, "40", 40.0),
        (301, "40", 40.0),
    ],
    ids=[
        "seconds", "date", "shorter", "negative", "huge", "500", "502", "504 with a date", "404 in failures",
        "301 in failures",
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", [None, BodyEnd.COMPLETE, ConnectionLost()], ids=["whole", "streamed", "cut"])
async def test_retry_after_of_a_failing_status_lengthens_the_open_period(
    status: int, value: str, period: float, end: BodyEnd | ProxyError | None
) -> None:
    failures = SETTINGS.failures | {301, 404}
    body = b"" if end is None else FakeBody(None)
    scene = Scene(response(status, body, retry_after=value), failure_threshold=1, failures=failures)
    await scene.ask()
    if isinstance(body, FakeBody) and end is not None:
        body.end_with(end)
    assert scene.bench.circuit.snapshot(0.0).next_probe_at == period
    scene.upstream.script = [response(status, retry_after="90")]
    scene.clock.now = period
    await scene.ask()
    assert scene.bench.steps[-1] == ("half_open", "open", "probe_failed")
    assert scene.bench.circuit.snapshot(period).next_probe_at == period + 90.0


async def test_retry_after_of_a_success_that_lifts_the_window_to_its_minimum_is_not_asked_for_patience() -> None:
    scene = Scene(failure_threshold=None, failure_rate=0.5, minimum_requests=2)
    scene.upstream.script = [response(500), response(202, retry_after="90")]
    await scene.ask()
    await scene.ask()
    assert scene.bench.circuit.snapshot(0.0).next_probe_at == 10.0


async def test_a_throttled_probe_holds_the_next_one_off() -> None:
    scene = Scene(response(429, retry_after="20"))
    await scene.trip()
    scene.clock.now = 10.0
    await scene.ask()
    with pytest.raises(CircuitOpen, match="asked to wait; ask again in 20 s"):
        await scene.ask()


async def test_a_trip_shows_the_failing_requests() -> None:
    body = FakeBody(None)
    scene = Scene(ConnectionRefused(), response(503, body), failure_threshold=2)
    scene.clock.now = 1.0
    with pytest.raises(ConnectionRefused):
        await scene.ask("POST", b"/orders")
    await scene.ask(target=b"/items?token=secret")
    scene.clock.now = 1.5
    body.end_with(BodyEnd.COMPLETE)
    first, second = scene.bench.events[0].samples
    assert first == Sample(WALL + 1.0, "r-1", "POST", "/orders", None, "connection_refused", 0.0)
    assert second == Sample(WALL + 1.5, "r-1", "GET", "/items", 503, None, 0.5)


async def test_requests_that_hang_open_the_circuit_and_are_its_samples() -> None:
    scene = Scene(response(), slow_rate=0.5, slow_after=2.0, minimum_requests=3)
    scene.upstream.gate = asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(scene.stage.handle(request()))
        await asyncio.sleep(0)
        scene.clock.now = 2.5
        scene.bench.circuit.tick(2.5)
        assert scene.bench.state == "open"
        scene.upstream.gate.set()
    samples = scene.bench.events[0].samples
    assert [(sample.status, sample.error, sample.duration) for sample in samples] == [(None, None, 2.5)] * 3


# The real loop (issue item 8)


@pytest.mark.parametrize("probes", [1, 7])
async def test_a_thousand_requests_at_the_moment_of_expiry_are_as_many_hits_as_probes(probes: int) -> None:
    scene = Scene(response(), half_open_probes=probes, success_threshold=probes)
    await scene.trip()
    scene.clock.now = 10.0
    scene.upstream.gate = asyncio.Event()
    async with asyncio.timeout(10):
        tasks = [asyncio.ensure_future(scene.ask()) for _ in range(1000)]
        refused, _ = await asyncio.wait(tasks, timeout=0.05)
        assert len(refused) == 1000 - probes
        scene.upstream.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert scene.upstream.reached == probes
    assert sum(isinstance(result, Response) for result in results) == probes
    assert sum(isinstance(result, CircuitOpen) for result in results) == 1000 - probes
    assert scene.bench.state == "closed"


async def cancel_before_it_starts(scene: Scene) -> None:
    task = asyncio.ensure_future(scene.stage.handle(request()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def cancel_while_waiting_for_the_upstream(scene: Scene) -> None:
    scene.upstream.gate = asyncio.Event()
    task = asyncio.ensure_future(scene.stage.handle(request()))
    scene.upstream.hit.clear()
    await scene.upstream.hit.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def leave_while_the_body_streams(scene: Scene) -> None:
    body = FakeBody(None)
    scene.upstream.script = [response(200, body)]
    await scene.stage.handle(request())
    body.close()


async def lose_the_upstream_while_the_body_streams(scene: Scene) -> None:
    body = FakeBody(None)
    scene.upstream.script = [response(200, body)]
    await scene.stage.handle(request())
    body.end_with(ConnectionLost())


async def time_out_waiting_for_the_upstream(scene: Scene) -> None:
    scene.upstream.script = [FirstByteTimeout()]
    with pytest.raises(FirstByteTimeout):
        await scene.stage.handle(request())


@pytest.mark.parametrize(
    "end",
    [
        cancel_before_it_starts,
        cancel_while_waiting_for_the_upstream,
        leave_while_the_body_streams,
        lose_the_upstream_while_the_body_streams,
        time_out_waiting_for_the_upstream,
    ],
    ids=lambda value: value.__name__,
)
@pytest.mark.parametrize("probing", [False, True], ids=["closed", "probe"])
async def test_no_permit_stays_out_however_a_request_ends(end: Any, probing: bool) -> None:  # noqa: FBT001 - a column of the table
    scene = Scene(response(), slow_rate=0.5)
    if probing:
        await scene.trip()
        scene.clock.now = 10.0
    await end(scene)
    snapshot = scene.bench.circuit.snapshot(scene.clock.now)
    assert snapshot.probes_in_flight == 0
    assert not scene.bench.circuit._waits


async def test_after_a_reload_statuses_count_by_the_new_lists() -> None:
    scene = Scene(response(500))
    scene.bench.circuit.reconfigure(replace(SETTINGS, failures=frozenset({503})), {}, 0.0)
    await scene.ask()
    assert scene.calls == {"success": 1}


@pytest.mark.parametrize("when", ["before it asks", "while it waits"])
async def test_a_half_closed_client_keeps_nobody_from_probing(when: str) -> None:
    scene = Scene(failure_threshold=1, success_threshold=1)
    await scene.trip()
    scene.clock.now += 60.0
    body = FakeBody(None)
    scene.upstream.script = [response(200, body), response(200, FakeBody(None))]
    made = request()
    if when == "before it asks":
        made.half_close()
    await scene.stage.handle(made)
    if when == "while it waits":
        with pytest.raises(CircuitOpen):
            await scene.ask()
        made.half_close()
    await scene.ask()
    assert scene.upstream.reached == 2
    body.end_with(BodyEnd.COMPLETE)
    assert scene.bench.state == "closed"
