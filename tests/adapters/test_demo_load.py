"""The rehearsal's clients keep their rate, and tell by whom each was answered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.adapters.demo_load import FALLBACK, NOTHING, UPSTREAM, SteadyLoad

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpServer


async def test_each_request_is_sent_when_it_is_due_whatever_becomes_of_the_others(
    aiohttp_server: AiohttpServer,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        match request.query_string:
            case "0":
                await asyncio.sleep(30)
            case "1":
                return web.Response(headers={"X-Sidecar-Fallback": "static"})
            case "2":
                return web.Response(status=503)
            case "3":
                assert request.transport is not None
                request.transport.abort()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    server = await aiohttp_server(app)
    load = SteadyLoad(str(server.make_url("/")), rate=50, patience=1.0, now=time.monotonic)
    begin = time.monotonic()
    await load.run(begin, 0.1)

    answers = sorted(load.answers)
    assert [answer.by for answer in answers] == [NOTHING, FALLBACK, NOTHING, NOTHING, UPSTREAM]
    assert [round(answer.due - begin, 3) for answer in answers] == [0, 0.02, 0.04, 0.06, 0.08]
    assert answers[0].took >= 1.0 > max(answer.took for answer in answers[1:])
