"""What the stage does with the request; what clients get of it is shown in `tests/e2e/test_fallbacks.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config import Fallback, ProxySettings, RetrySettings
from sidecar.pipeline.errors import CircuitOpen, ConnectionRefused, Unanswered
from sidecar.pipeline.fallback_sources import FallbackSources, StandInUpstream
from sidecar.pipeline.fallback_stage import around
from sidecar.pipeline.message import Body, BodyEnd
from sidecar.pipeline.stage import Parts, RouteParts
from sidecar.pipeline.stats import RouteStats, UpstreamStats
from tests.support.circuits import Bench
from tests.support.fake_store import FakeStore
from tests.support.routes import route
from tests.support.stages import ManualClock, ScriptedHandler, ToldBody, request, response

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Handler


def spawn(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=name)


def staged(inner: Handler, other: Handler, retry: RetrySettings | None = None) -> Handler:
    """The stage around `inner`, which falls back on `other` and then on a text."""
    sources = FallbackSources({"other": StandInUpstream(other, frozenset({503}))})
    parts = Parts(ProxySettings(), ManualClock(), spawn, FakeStore(), None, sources)
    config = route("shop", fallback=(Fallback(upstream="other"), Fallback(body="calm")), retry=retry)
    return around(inner, RouteParts(config, Bench().circuit, RouteStats("shop"), UpstreamStats("shop"), parts))


class Failing:
    """An upstream that resets whatever it was sent, and gives the body up as the real one does."""

    async def handle(self, request: Request) -> Response:
        request.attempts += 1
        if isinstance(request.body, Body):
            request.body.close()
        raise Unanswered("reset")


async def test_the_rest_of_a_request_that_nobody_wants_any_more_is_given_up() -> None:
    asked, source = request(method="POST"), ToldBody()
    asked.body = source
    answer = await staged(Failing(), Failing()).handle(asked)
    assert answer.body == b"calm"
    assert (source.end, source.released) == (BodyEnd.ABANDONED, 1)


@pytest.mark.parametrize(
    ("retry", "longest"), [(None, 65536), (RetrySettings(max_body=100), 100), (RetrySettings(attempts=1), 65536)]
)
@pytest.mark.parametrize(("more", "body"), [(0, b"content"), (1, b"calm")])
async def test_a_body_that_is_all_there_is_bounded_by_max_body_too(
    retry: RetrySettings | None, longest: int, more: int, body: bytes
) -> None:
    asked = request(method="POST")
    asked.body = b"x" * (longest + more)
    assert (await staged(Failing(), ScriptedHandler(response()), retry).handle(asked)).body == body


async def test_a_long_body_of_which_nothing_was_sent_goes_to_the_fallback() -> None:
    never_connected = ConnectionRefused("refused")
    never_connected.unsent = True
    for error in (CircuitOpen("open"), never_connected):
        asked = request(method="POST")
        asked.body = b"x" * 65537
        answer = await staged(ScriptedHandler(error), ScriptedHandler(response())).handle(asked)
        assert answer.body == b"content"


async def test_who_listened_for_the_client_on_behalf_of_the_first_upstream_hears_no_more() -> None:
    asked = request()
    asked.on_half_close = lambda: pytest.fail("told of another upstream's request")
    other = ScriptedHandler(response())
    await staged(Failing(), other).handle(asked)
    other.asked[0].half_close()


async def test_a_route_without_fallbacks_has_no_such_stage() -> None:
    inner = Failing()
    parts = Parts(ProxySettings(), ManualClock(), spawn, FakeStore(), None)
    assert (
        around(inner, RouteParts(route("shop"), Bench().circuit, RouteStats("shop"), UpstreamStats("shop"), parts))
        is inner
    )
