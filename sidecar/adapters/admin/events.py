"""GET /v1/events and /v1/events/stream."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import dumps, json_long_answer
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import text, whole
from sidecar.adapters.admin.problems import unknown
from sidecar.adapters.admin.queries import LONGEST_NUMBER, number_in, single, whole_number
from sidecar.core.events import RING_SIZE
from sidecar.core.report import rfc3339
from sidecar.pipeline.data_plane import UnknownCircuit
from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.adapters.admin.context import AdminContext
    from sidecar.adapters.admin.streams import Streams
    from sidecar.core.events import Event, EventRing

LARGEST_ID = 10**LONGEST_NUMBER - 1
STREAM_PARAMETERS = {"since": whole(0, LARGEST_ID)}
PARAMETERS = {**STREAM_PARAMETERS, "limit": whole(1, RING_SIZE), "circuit": text()}


async def list_events(request: web.Request) -> web.Response:
    """The kept events, oldest first: the youngest `limit` of them, or with `since` those that came after that id, of
    which `limit` takes the oldest, so that whoever goes on with the last id that it got misses none. With `circuit`
    only those about it.
    """
    since, limit = whole_number(request, "since", 0, LARGEST_ID), whole_number(request, "limit", 1, RING_SIZE)
    circuit = single(request, "circuit")
    context = request.app[CONTEXT]
    events = context.events.after(since or 0)
    if circuit is not None:
        events = [event for event in events if event.circuit == circuit]
        if not events:
            await _check_circuit(context, circuit)
    if limit is not None:
        events = events[-limit:] if since is None else events[:limit]
    return await json_long_answer({}, {"events": map(event_view, events)})


async def _check_circuit(context: AdminContext, name: str) -> None:
    try:
        await context.plane.circuits.snapshot(name)
    except UnknownCircuit as error:
        raise unknown("circuit", name, error.known) from None


def event_view(event: Event) -> dict[str, object]:
    """An event in JSON values."""
    return {
        "id": event.id,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "circuit": event.circuit,
        "message": event.message,
        "details": dict(event.details),
    }


class EventCursor:
    """Where a reader of the events stands."""

    def __init__(self, ring: EventRing, last_id: int) -> None:
        self._ring = ring
        self._last_id = last_id

    async def next_text(self) -> str:
        """The events that it has not been told, as server-sent events."""
        events = self._ring.after(self._last_id)
        if events:
            self._last_id = events[-1].id
        return "".join(await in_slices(map(_server_sent, events), perf_counter))


async def stream_events(request: web.Request, streams: Streams) -> web.StreamResponse:
    """The kept events and then each new one, from the Last-Event-ID on, else from `since` on.

    A reader that is too slow misses what falls out of the ring, and sees it by the gap in the ids.
    """
    ring = request.app[CONTEXT].events
    return await streams.serve(request, [ring.listen], EventCursor(ring, first_seen(request)).next_text)


def first_seen(request: web.Request) -> int:
    """The id after which a stream begins. A reader that connects again knows better than its URL."""
    since = whole_number(request, "since", 0, LARGEST_ID) or 0
    return last_event_id(request.headers.get("Last-Event-ID", "")) or since


def _server_sent(event: Event) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {dumps(event_view(event))}\n\n"


def last_event_id(field: str) -> int:
    """The id that a Last-Event-ID field holds; 0 when it is none of ours."""
    return number_in(field) or 0
