"""The telemetry listener: GET /metrics, /livez, /readyz and /startupz, and nothing that changes anything.

The kubelet and Prometheus reach it from outside the pod. An open circuit never makes a probe fail: restarting the pod
would not heal the upstream (contract.md §5).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MAX_REQUEST_BODY = 1024


@dataclass(frozen=True, slots=True)
class TelemetryState:
    """What the listener tells. `started`: configured and listening for the first time. `unready` says why no traffic
    should come, or nothing when it should; `report` says all that was looked at, in lines. `metrics` renders the page
    for an Accept field: its blocks and its content type.
    """

    started: Callable[[], bool]
    unready: Callable[[], str | None]
    report: Callable[[], Awaitable[Sequence[str]]]
    metrics: Callable[[str], Awaitable[tuple[list[bytes], str]]]


def build_telemetry(state: TelemetryState) -> web.Application:
    """The application of the listener."""
    probes = Probes(state)
    app = web.Application(middlewares=[_plain_errors], client_max_size=MAX_REQUEST_BODY)
    app.on_response_prepare.append(_name_server)
    app.router.add_get("/metrics", probes.metrics)
    app.router.add_get("/livez", probes.livez)
    app.router.add_get("/readyz", probes.readyz)
    app.router.add_get("/startupz", probes.startupz)
    return app


class Probes:
    """The four answers."""

    def __init__(self, state: TelemetryState) -> None:
        self._state = state

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Every metric."""
        blocks, content_type = await self._state.metrics(request.headers.get(hdrs.ACCEPT, ""))
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: content_type})
        response.content_length = sum(map(len, blocks))
        await response.prepare(request)
        for block in blocks if request.method == hdrs.METH_GET else ():
            await response.write(block)
            await asyncio.sleep(0)  # writing waits only for a reader that is behind
        return response

    async def livez(self, _request: web.Request) -> web.Response:
        """200, because answering takes a loop that turns."""
        return _text(200, "alive")

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while traffic should come; with `verbose` in the query everything that was looked at."""
        report = await self._state.report() if "verbose" in request.query else ()
        reason = self._state.unready()
        verdict = "ready" if reason is None else f"not ready: {reason}"
        return _text(200 if reason is None else 503, "\n".join([*report, verdict]))

    async def startupz(self, _request: web.Request) -> web.Response:
        """200 once configured and listening."""
        return _text(200, "started") if self._state.started() else _text(503, "not started yet")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers={hdrs.CACHE_CONTROL: "no-store"})


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    # What aiohttp would say names its version, to everybody who can reach the pod.
    response.headers[hdrs.SERVER] = "sidecar"


@web.middleware
async def _plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        response = _text(error.status, "this listener only answers GET")
        response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        return response
    except web.HTTPNotFound as error:
        return _text(error.status, "here are /metrics /livez /readyz /startupz")
