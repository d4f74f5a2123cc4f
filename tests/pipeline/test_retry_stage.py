from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config import BudgetSettings, HedgeSettings, RetryBackoff, RetryCause, RetrySettings
from sidecar.core.http.heads import Headers, RequestHead, ResponseHead
from sidecar.pipeline import retry_stage
from sidecar.pipeline.errors import (
    BadRequest,
    CircuitOpen,
    ConnectionLost,
    ConnectionRefused,
    Draining,
    FirstByteTimeout,
    InternalError,
    PoolExhausted,
    ProtocolError,
    ProxyError,
    StaleConnection,
    TotalTimeout,
    Unanswered,
    UpstreamError,
)
from sidecar.pipeline.message import Body, BodyEnd, Request, Response
from sidecar.pipeline.retry_stage import RetryParts, RetryStage
from sidecar.pipeline.stage import RouteParts
from sidecar.pipeline.stats import UpstreamStats
from tests.support.stages import ManualClock, ToldBody

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sidecar.pipeline.message import Repeat

Step = Response | BaseException
AT_ONCE = RetryBackoff(base=0.0, max=0.0)


def answer(status: int = 200, body: bytes | Body = b"x", **fields: str) -> Response:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return Response(ResponseHead(status, Headers(lines)), body)


def request(method: str = "GET", body: bytes | Body = b"", *fields: tuple[bytes, bytes]) -> Request:
    return Request(RequestHead(method, b"/", Headers(fields)), body, request_id=b"r", started=100.0)


def unsent(error: UpstreamError) -> UpstreamError:
    error.unsent = True
    return error


class Upstream:
    """Takes one step of its script for each attempt; the last one is everybody else's."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.repeats: list[Repeat] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.asked_again = asyncio.Event()
        self.probes = False

    async def handle(self, request: Request) -> Response:
        number = len(self.repeats)
        self.repeats.append(request.repeat)
        if number:
            self.asked_again.set()
        request.attempts += 1
        request.is_probe = self.probes
        request.endpoint = f"endpoint {number}"
        step = self.script[min(number, len(self.script) - 1)]
        if number in self.gates:
            await self.gates[number].wait()
        if isinstance(step, BaseException):
            raise step
        return step


class Scene:
    def __init__(self, *script: Step, total: float | None = None, random: float = 1.0, **settings: Any) -> None:
        self.upstream = Upstream(*script)
        self.clock = ManualClock()
        self.stats = UpstreamStats("shop")
        chosen = RetrySettings(**{"backoff": AT_ONCE, **settings})
        parts = RetryParts(chosen, total, self.stats, self.clock, spawn, lambda: random)
        self.stage = RetryStage(self.upstream, parts)

    @property
    def retries(self) -> dict[str, int]:
        return dict(self.stats.retries)


def spawn(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=name)


FINAL = [
    CircuitOpen("no", retry_after=1.0),
    PoolExhausted("full"),
    BadRequest("what?"),
    ConnectionLost("within the head"),
    ProtocolError("nonsense"),
    TotalTimeout("over"),
    FirstByteTimeout("not configured"),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__name__)
async def test_what_is_final_is_raised_as_it_is(error: ProxyError) -> None:
    scene = Scene(error)
    with pytest.raises(type(error)) as raised:
        await scene.stage.handle(request())
    assert raised.value is error
    assert (len(scene.upstream.repeats), scene.retries) == (1, {})


@pytest.mark.parametrize("again", [CircuitOpen("no"), PoolExhausted("full")], ids=["refused", "no slot"])
async def test_a_retry_that_the_sidecar_itself_keeps_from_being_made_ends_the_attempts(again: ProxyError) -> None:
    scene = Scene(answer(503), again, attempts=5)
    with pytest.raises(type(again)):
        await scene.stage.handle(request())
    assert len(scene.upstream.repeats) == 2


async def test_timeouts_are_a_cause_by_option_and_the_total_never_is() -> None:
    scene = Scene(FirstByteTimeout("slow"), TotalTimeout("over"), attempts=5, on=frozenset({RetryCause.TIMEOUT}))
    with pytest.raises(TotalTimeout):
        await scene.stage.handle(request())
    assert scene.retries == {"failure": 1}


async def test_each_attempt_knows_those_before_it() -> None:
    scene = Scene(Unanswered("reset"), StaleConnection("closed"), answer(503), answer(), attempts=4)
    asked = request()
    assert (await scene.stage.handle(asked)).head.status == 200
    assert [repeat.number for repeat in scene.upstream.repeats] == [1, 2, 3, 4]
    assert [repeat.fresh for repeat in scene.upstream.repeats] == [False, False, True, False]
    assert [len(repeat.avoid) for repeat in scene.upstream.repeats] == [0, 1, 2, 3]
    assert [repeat.final for repeat in scene.upstream.repeats] == [False, False, False, True]
    assert asked.attempts == 4
    assert scene.retries == {"failure": 2, "success": 1}


async def test_the_body_of_an_answer_that_nobody_gets_ends_as_discarded() -> None:
    body = ToldBody()
    ends: list[object] = []
    body.on_end(ends.append)
    await Scene(answer(503, body), answer()).stage.handle(request())
    assert (ends, body.released) == ([BodyEnd.DISCARDED], 1)


async def test_the_answer_that_is_passed_on_keeps_its_body() -> None:
    body = ToldBody()
    response = await Scene(answer(503), answer(503, body)).stage.handle(request())
    assert (response.body, body.end) == (body, None)


async def test_a_streamed_request_has_no_more_attempts_than_others() -> None:
    scene = Scene(
        answer(503), Unanswered("reset"), attempts=10, budget=BudgetSettings(share=0.0, floor=0, observe=True)
    )
    with pytest.raises(Unanswered):
        await scene.stage.handle(request("PUT", ToldBody()))
    assert (len(scene.upstream.repeats), scene.retries) == (10, {"failure": 9})
    scene = Scene(answer(503), Unanswered("reset"), attempts=10, budget=BudgetSettings(share=1.0, floor=0))
    with pytest.raises(Unanswered):
        await scene.stage.handle(request("PUT", ToldBody()))
    assert scene.retries == {"failure": 1, "budget": 1}


async def test_a_probe_is_never_tried_again() -> None:
    scene = Scene(answer(503))
    scene.upstream.probes = True
    assert (await scene.stage.handle(request())).head.status == 503
    assert len(scene.upstream.repeats) == 1


@pytest.mark.parametrize(("deadline", "total"), [(100.9, None), (float("inf"), 0.9), (200.0, 0.9), (100.9, 60.0)])
async def test_what_would_come_after_the_deadline_is_too_late(deadline: float, total: float | None) -> None:
    scene = Scene(answer(503, Retry_After="1"), total=total)
    asked = request()
    asked.deadline = deadline
    await scene.stage.handle(asked)
    assert (len(scene.upstream.repeats), scene.retries) == (1, {"too_late": 1})


@pytest.mark.parametrize("value", ["-1", "soon", "Sun, 06 Nov 1970 08:50:17 GMT"])
async def test_a_retry_after_that_says_nothing_leaves_the_backoff(value: str) -> None:
    assert (await Scene(answer(503, Retry_After=value), answer()).stage.handle(request())).head.status == 200


async def test_a_cancelled_retry_counts_as_one_that_failed() -> None:
    scene = Scene(answer(503))
    scene.upstream.gates[1] = asyncio.Event()
    waiting = asyncio.ensure_future(scene.stage.handle(request()))
    await scene.upstream.asked_again.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert scene.retries == {"failure": 1}


async def test_without_a_budget_there_is_no_limit() -> None:
    scene = Scene(answer(503), attempts=10, budget=None)
    await scene.stage.handle(request())
    assert scene.retries == {"failure": 9}


async def test_every_request_counts_for_the_budget() -> None:
    scene = Scene(answer(), budget=BudgetSettings(share=0.5, floor=0))
    for _ in range(10):
        await scene.stage.handle(request())
    assert scene.stats.retry_budget.available(BudgetSettings(share=0.5, floor=0), 100.0) == 5


@pytest.mark.parametrize(
    "script", [lambda: [unsent(ConnectionRefused("no"))], lambda: [Unanswered("no"), ProtocolError("no")]]
)
async def test_an_error_that_was_raised_leaves_no_circle_behind(script: Callable[[], list[Step]]) -> None:
    scene = Scene(*script())
    gc.collect()
    with pytest.raises(UpstreamError):
        await scene.stage.handle(request())
    scene.upstream.script.clear()
    assert gc.collect() == 0


# Hedges


@pytest.mark.parametrize(
    ("outcome", "raised"),
    [(asyncio.CancelledError(), Draining), (RuntimeError("a defect"), InternalError), (BadRequest("no"), BadRequest)],
)
async def test_what_ends_the_only_attempt_ends_the_request(outcome: BaseException, raised: type[ProxyError]) -> None:
    scene = Scene(outcome, hedge=HedgeSettings(60.0))
    with pytest.raises(raised):
        await scene.stage.handle(request())
    assert scene.stats.hedges == {}


async def test_a_hedge_that_the_circuit_refuses_is_none() -> None:
    scene = Scene(answer(), CircuitOpen("no"), hedge=HedgeSettings(0.001))
    scene.upstream.gates[0] = asyncio.Event()
    waiting = asyncio.ensure_future(scene.stage.handle(request()))
    await scene.upstream.asked_again.wait()
    scene.upstream.gates[0].set()
    assert (await waiting).head.status == 200
    assert scene.stats.hedges == {}


async def test_the_attempts_of_both_are_the_request_s() -> None:
    scene = Scene(answer(), answer(), hedge=HedgeSettings(0.001))
    scene.upstream.gates[0] = asyncio.Event()
    asked = request()
    await scene.stage.handle(asked)
    assert asked.attempts == 2
    assert [repeat.number for repeat in scene.upstream.repeats] == [1, 2]
    assert scene.stats.attempt_durations.counts[0] == 1, "the loser counts among what is measured"


async def test_a_request_whose_deadline_comes_before_the_hedge_is_not_hedged() -> None:
    scene = Scene(answer(), hedge=HedgeSettings(5.0), total=1.0)
    tasks = len(asyncio.all_tasks())
    scene.upstream.gates[0] = asyncio.Event()
    waiting = asyncio.ensure_future(scene.stage.handle(request()))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == tasks + 1
    scene.upstream.gates[0].set()
    await waiting


# Which routes have one


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (None, False),
        (RetrySettings(attempts=1), False),
        (RetrySettings(attempts=1, hedge=HedgeSettings(1.0)), True),
        (RetrySettings(), True),
    ],
)
def test_a_route_without_retries_has_no_stage(settings: RetrySettings | None, *, there: bool) -> None:
    upstream: Any = Upstream()
    route: Any = type("Route", (), {"retry": settings, "timeouts": type("Timeouts", (), {"total": None})})
    shared: Any = type("Shared", (), {"clock": ManualClock(), "spawn": spawn})
    parts = RouteParts(route, Any, Any, UpstreamStats("shop"), shared)  # type: ignore[arg-type]  # what the stage asks for
    assert isinstance(retry_stage.around(upstream, parts), RetryStage) is there
