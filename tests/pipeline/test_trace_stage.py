from __future__ import annotations

import asyncio

import pytest

from sidecar.core.config import Endpoint, Rewrite
from sidecar.core.http.heads import Headers, RequestHead
from sidecar.pipeline.errors import ConnectionRefused
from sidecar.pipeline.message import Attempt, Request
from sidecar.pipeline.trace_stage import TraceStage
from tests.support.stages import ManualClock, ScriptedHandler, response

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
ENDPOINT = Endpoint("https", "shop.svc", 443, base_path="/base/")


def traced(flags: bytes = b"01") -> Request:
    head = RequestHead("GET", b"/shop/1?a=b", Headers([(b"traceparent", TRACE + flags)]))
    asked = Request(head, b"", request_id=b"r-1", started=0.0)
    asked.rewrite = Rewrite(strip_prefix="/shop", add_prefix="/v2")
    asked.asked = "10.0.0.1:443"
    return asked


async def test_an_answer_is_noted_with_what_was_sent() -> None:
    answer, asked = response(404), traced()

    assert await TraceStage(ScriptedHandler(answer), ENDPOINT, ManualClock(7.0)).handle(asked) is answer

    assert asked.trail == [Attempt("https", "10.0.0.1:443", b"/base/v2/1?a=b", 7.0, 7.0, 404)]


@pytest.mark.parametrize(
    ("raised", "error"), [(ConnectionRefused(), "connection_refused"), (asyncio.CancelledError(), "cancelled")]
)
async def test_each_failure_is_noted_and_goes_on(raised: BaseException, error: str) -> None:
    asked = traced()
    stage = TraceStage(ScriptedHandler(raised), ENDPOINT, ManualClock(7.0))

    for _ in range(2):
        with pytest.raises(type(raised)):
            await stage.handle(asked)

    assert asked.trail is not None
    assert [(attempt.status, attempt.error) for attempt in asked.trail] == [(0, error)] * 2


@pytest.mark.parametrize("flags", [b"00", b"02", b""])
async def test_nothing_is_noted_of_what_nobody_records(flags: bytes) -> None:
    asked = traced(flags)

    await TraceStage(ScriptedHandler(response()), ENDPOINT, ManualClock()).handle(asked)

    assert asked.trail is None
