"""GET /v1/traffic and /v1/traffic/stream: what the dashboard and `sidecar ctl top` draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_long_answer, json_long_text
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.events import EventCursor, first_seen

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.adapters.admin.context import AdminContext
    from sidecar.adapters.admin.streams import Streams


async def show_traffic(request: web.Request) -> web.Response:
    """The last ten minutes: requests by source, latency and cache hits by bucket, and the buckets of each circuit."""
    context = request.app[CONTEXT]
    await context.read_traffic()
    overview = context.traffic.overview(context.moment().date)
    return await json_long_answer(overview, {"circuits": context.traffic.circuits()})


class TrafficStreams:
    """The newest bucket every two seconds, as `traffic`, and each event as it happens, on one connection: browsers have
    few for each host.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._written = 0, ""
        """The last reading that was written, and its text: the same for every reader."""

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One reader's stream: the kept events after Last-Event-ID or `since`, then what happens."""
        context = request.app[CONTEXT]
        events = EventCursor(context.events, first_seen(request))
        told = 0

        async def next_text() -> str:
            nonlocal told
            if told == context.traffic.taken:
                return await events.next_text()
            told = context.traffic.taken
            return await events.next_text() + await self._text(context)

        return await self._streams.serve(request, [context.events.listen, context.traffic.listen], next_text)

    async def _text(self, context: AdminContext) -> str:
        traffic = context.traffic
        number, text = self._written
        if number != traffic.taken:
            number, latest = traffic.taken, traffic.latest(context.moment().date)
            data = await json_long_text(latest, {"circuits": traffic.busy_circuits()})
            text = f"event: traffic\ndata: {data}\n\n"
            self._written = number, text
        return text
