"""GET /v1/events and /v1/events/stream."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from sidecar.adapters.admin.answers import dumps, json_long_answer
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.problems import Problem
from sidecar.adapters.admin.queries import LONGEST_NUMBER, number_in, whole_number
from sidecar.core.events import RING_SIZE
from sidecar.core.report import rfc3339
from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from sidecar.core.events import Event, EventRing

MOST_STREAMS = 64
PARAMETERS = ("since", "limit")
LARGEST_ID = 10**LONGEST_NUMBER - 1
LONGEST_WRITE = 30.0
"""Seconds for which a reader may leave what it was sent unread; it may come back with its Last-Event-ID."""
GREETING = b"retry: 2000\n\n"
HEARTBEAT = b": heartbeat\n\n"


async def list_events(request: web.Request) -> web.Response:
    """The kept events, oldest first: the youngest `limit` of them, or with `since` those that came after that id, of
    which `limit` takes the oldest, so that whoever goes on with the last id that it got misses none.
    """
    since, limit = whole_number(request, "since", 0, LARGEST_ID), whole_number(request, "limit", 1, RING_SIZE)
    events = request.app[CONTEXT].events.after(since or 0)
    if limit is not None:
        events = events[-limit:] if since is None else events[:limit]
    return await json_long_answer({}, {"events": map(event_view, events)})


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


class EventStreams:
    """The kept events and then each new one, as server-sent events, to every reader that is connected.

    A reader that is too slow misses what falls out of the ring, and sees it by the gap in the ids.
    """

    def __init__(self) -> None:
        self._open: set[Reader] = set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One reader's stream, from its Last-Event-ID on."""
        if len(self._open) >= MOST_STREAMS:
            detail = f"{MOST_STREAMS} streams are open already"
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_streams", detail, headers=headers)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}
        )
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            await self._follow(request, response)
        return response

    async def _follow(self, request: web.Request, response: web.StreamResponse) -> None:
        context = request.app[CONTEXT]
        reader = Reader(context.events, last_event_id(request.headers.get("Last-Event-ID", "")), context.heartbeat)
        self._open.add(reader)
        try:
            # aiohttp keeps the head back until there is something to send after it.
            await response.write(GREETING)
            while text := await reader.next_text():
                async with asyncio.timeout(LONGEST_WRITE):
                    await response.write(text)
        except TimeoutError:
            _abort(request)
        except ConnectionError:
            pass  # the reader left; there is nobody to tell
        finally:
            self._open.discard(reader)
            reader.stop_listening()

    async def close(self, _app: web.Application) -> None:
        """End every stream, since a shutdown waits for them."""
        for reader in self._open:
            reader.end()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


class Reader:
    """What one reader has yet to be sent."""

    def __init__(self, ring: EventRing, last_id: int, heartbeat: float) -> None:
        self._ring = ring
        self._last_id = last_id
        self._heartbeat = heartbeat
        self._woken = asyncio.Event()
        self._ended = False
        self.stop_listening = ring.listen(self._woken.set)

    def end(self) -> None:
        """Let the stream end."""
        self._ended = True
        self._woken.set()

    async def next_text(self) -> bytes:
        """The next events, or a comment when there was none for a while; b"" when the stream is over."""
        while not self._ended:
            self._woken.clear()
            if events := self._ring.after(self._last_id):
                self._last_id = events[-1].id
                return "".join(await in_slices(map(_server_sent, events), perf_counter)).encode()
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._woken.wait()
            except TimeoutError:
                return HEARTBEAT
        return b""


def _server_sent(event: Event) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {dumps(event_view(event))}\n\n"


def last_event_id(field: str) -> int:
    """The id that a Last-Event-ID field holds; 0 when it is none of ours."""
    return number_in(field) or 0
