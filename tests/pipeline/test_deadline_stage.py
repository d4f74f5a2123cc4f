"""What deadlines mean to the stage itself; the rest is told through real sockets."""

from __future__ import annotations

from math import inf

import pytest

from sidecar.core.config import Timeouts
from sidecar.pipeline.deadline_stage import DeadlineStage, clients_deadline, milliseconds, to_pass_on
from sidecar.pipeline.errors import DeadlineExceeded, PoolExhausted, TotalTimeout
from sidecar.pipeline.message import BodyEnd
from sidecar.pipeline.stats import RouteStats
from tests.support.stages import ManualClock, ScriptedHandler, ToldBody, request, response

FIELD = b"x-request-timeout-ms"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, None),
        (b"0", 0),
        (b"000", 0),
        (b"250", 250),
        (b"0250", 250),
        (b"9" * 12, 10**12 - 1),
        (b"9" * 13, None),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"1_0", None),
        (b"\xb2", None),
        (b"5, 6", None),
    ],
)
def test_only_plain_digits_are_a_number_of_milliseconds(value: bytes | None, number: int | None) -> None:
    assert milliseconds(value) == number


@pytest.mark.parametrize("given", [2, 3, 1000, 86_400_000])
@pytest.mark.parametrize("started", [0.0, 0.1, 1_234_567.891])
@pytest.mark.parametrize("took", [0.0, 1e-6, 0.0004, 0.0015, 0.5, 1e6])
def test_what_is_passed_on_is_less_than_what_was_given_and_never_nothing(
    given: int, started: float, took: float
) -> None:
    passed = to_pass_on(started + given / 1000, started + took)
    assert 1 <= passed < given
    assert passed == 1 or given - took * 1000 - 1.01 <= passed


class Scene:
    def __init__(self, outcome: object, total: float | None = None) -> None:
        self.clock = ManualClock()
        self.stats = RouteStats("r")
        self.inner = ScriptedHandler(outcome)  # type: ignore[arg-type]  # an answer or an error
        self.stage = DeadlineStage(self.inner, Timeouts(total=total), self.stats, self.clock)


@pytest.mark.parametrize(
    ("given", "total", "deadline", "by_client"),
    [
        (b"5000", None, 105.0, True),
        (b"5000", 30.0, 105.0, True),
        (b"5000", 2.0, 102.0, False),
        (b"2000", 2.0, 102.0, False),
        (b"soon", 2.0, 102.0, False),
        (b"soon", None, inf, False),
    ],
)
async def test_the_smaller_one_is_the_deadline(
    given: bytes, total: float | None, deadline: float, *, by_client: bool
) -> None:
    scene = Scene(response(), total)
    asked = request(b"/", "GET", (FIELD, given))
    await scene.stage.handle(asked)
    assert asked.deadline == deadline
    assert clients_deadline(asked, total) is by_client
    assert scene.stats.deadline_exceeded == 0


@pytest.mark.parametrize(("error", "counted"), [(TotalTimeout(), 1), (DeadlineExceeded(), 1), (PoolExhausted(), 0)])
async def test_an_error_counts_if_the_deadline_made_it(error: Exception, counted: int) -> None:
    scene = Scene(error, total=2.0)
    with pytest.raises(type(error)):
        await scene.stage.handle(request())
    assert scene.stats.deadline_exceeded == counted


async def test_a_stand_in_that_comes_after_the_deadline_counts() -> None:
    scene = Scene(response(), total=2.0)
    scene.clock.now += 2.0
    assert (await scene.stage.handle(request())).head.status == 200
    assert scene.stats.deadline_exceeded == 1


@pytest.mark.parametrize("end", [BodyEnd.COMPLETE, BodyEnd.ABANDONED, TotalTimeout()])
async def test_a_body_counts_once_when_it_ends(end: BodyEnd | TotalTimeout) -> None:
    body = ToldBody()
    scene = Scene(response(200, body), total=2.0)
    await scene.stage.handle(request())
    body.end_with(end)
    body.end_with(end)
    assert scene.stats.deadline_exceeded == isinstance(end, TotalTimeout)


async def test_a_defect_within_is_no_passed_deadline() -> None:
    scene = Scene(TimeoutError("a defect"))
    with pytest.raises(TimeoutError, match="a defect"):
        await scene.stage.handle(request(b"/", "GET", (FIELD, b"5000")))
    assert scene.stats.deadline_exceeded == 0
