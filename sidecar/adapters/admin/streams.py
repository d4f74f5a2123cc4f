"""Server-sent events to every reader that is connected: what there is to tell, and a comment when there is nothing."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import hdrs, web

from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

Listen: TypeAlias = "Callable[[Callable[[], None]], Callable[[], None]]"
"""Have something called whenever there may be more to tell; gives what ends that."""
NextText: TypeAlias = "Callable[[], Awaitable[str]]"
"""What a reader has not been told yet; empty when there is nothing."""

MOST_STREAMS = 64
LONGEST_WRITE = 30.0
"""Seconds for which a reader may leave what it was sent unread; it may come back with its Last-Event-ID."""
GREETING = b"retry: 2000\n\n"
HEARTBEAT = b": heartbeat\n\n"


class Streams:
    """Every stream that is open."""

    def __init__(self) -> None:
        self._open: set[Reader] = set()

    async def serve(self, request: web.Request, sources: Iterable[Listen], next_text: NextText) -> web.StreamResponse:
        """One reader's stream, until it leaves or the process ends."""
        if len(self._open) >= MOST_STREAMS:
            detail = f"{MOST_STREAMS} streams are open already"
            headers = {"Retry-After": "5"}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_streams", detail, headers=headers)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8", hdrs.CACHE_CONTROL: "no-store"}
        )
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            await self._follow(request, response, Reader(sources, next_text, request.app[CONTEXT].heartbeat))
        return response

    async def _follow(self, request: web.Request, response: web.StreamResponse, reader: Reader) -> None:
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

    def __init__(self, sources: Iterable[Listen], next_text: NextText, heartbeat: float) -> None:
        self._next_text = next_text
        self._heartbeat = heartbeat
        self._woken = asyncio.Event()
        self._ended = False
        self._forget = [listen(self._woken.set) for listen in sources]

    def stop_listening(self) -> None:
        """Hear of nothing any more."""
        for forget in self._forget:
            forget()

    def end(self) -> None:
        """Let the stream end."""
        self._ended = True
        self._woken.set()

    async def next_text(self) -> bytes:
        """What there is to tell, or a comment when there was nothing for a while; b"" when the stream is over."""
        while not self._ended:
            self._woken.clear()
            if text := await self._next_text():
                return text.encode()
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._woken.wait()
            except TimeoutError:
                return HEARTBEAT
        return b""
