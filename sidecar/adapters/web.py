"""Serves an aiohttp application to the callers of a control listener, and keeps them from getting in the proxy's way.

aiohttp waits for a request as long as the caller likes, and takes in as many callers as call. Here each has a time for
its request's head, for the content, and to take the answer; and of too many the one that has been idle longest goes.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SHUTDOWN = 2.0
"""Seconds that calls under way have when the listener ends."""
KEEP_ALIVE = 75.0
"""Seconds for which a connection may rest between two calls: longer than scrapes are apart."""
CONTENT = 30.0
"""Seconds for a call's content to arrive, and for a caller to take what was written to it."""
SHARE_OF_DESCRIPTORS = 4
"""One control listener takes no more than a quarter of the descriptors that the process may have."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """Callers at once, and the seconds that each has for a head."""

    connections: int = 512
    head_timeout: float = 10.0

    def most(self) -> int:
        """Callers that are taken in, as the process's limit is now."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(1, min(self.connections, descriptors // SHARE_OF_DESCRIPTORS))


class WebListener:
    """One application, and those who are connected to it."""

    def __init__(self, application: web.Application, limits: CallerLimits | None = None) -> None:
        application.middlewares.insert(0, self._call)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
        self._limits = limits or CallerLimits()
        self._most = self._limits.most()
        self._callers: dict[asyncio.BaseProtocol, _Caller] = {}
        """By aiohttp's protocol; whoever called last comes last."""

    async def start(self) -> Callable[[], asyncio.BaseProtocol]:
        """What takes in each caller."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "made by `setup`"
        return lambda: _Caller(self, server(), self._limits.head_timeout)

    async def stop(self) -> None:
        """End the calls under way, and every connection."""
        await self._runner.cleanup()

    def admit(self, caller: _Caller) -> bool:
        """Take in a caller; the one that has been idle longest makes room. False: there is none."""
        if len(self._callers) >= self._most:
            idle = next((each for each in self._callers.values() if each.idle), None)
            if idle is None:
                return False
            self.dismiss(idle)
            idle.abort()
        self._callers[caller.inner] = caller
        return True

    def dismiss(self, caller: _Caller) -> None:
        """A caller has gone."""
        self._callers.pop(caller.inner, None)

    @web.middleware
    async def _call(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        caller = self._callers.pop(request.protocol, None)
        if caller is None:
            return await handler(request)
        self._callers[caller.inner] = caller
        caller.begin(request)
        try:
            return await handler(request)
        finally:
            caller.end()


class _Caller(asyncio.Protocol):
    """What stands between a caller's transport and aiohttp's protocol, `inner`, for the time limits."""

    def __init__(self, listener: WebListener, inner: asyncio.Protocol, head_timeout: float) -> None:
        self.inner = inner
        self._listener = listener
        self._head_timeout = head_timeout
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._admitted = False
        self._busy = False
        self._resting = False

    @property
    def idle(self) -> bool:
        """Whether no call is lost when it goes."""
        return not self._busy and self._transport is not None and not self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def begin(self, request: web.Request) -> None:
        """The head of a call is here."""
        self._busy, self._resting = True, False
        self._within(CONTENT, partial(self._must_be_whole, request))

    def end(self) -> None:
        """A call is answered; another may follow."""
        self._busy, self._resting = False, True
        self._within(KEEP_ALIVE, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._admitted = self._listener.admit(self)
        if self._admitted:
            self.inner.connection_made(transport)
            self._within(self._head_timeout, self.abort)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Part of a head, or of what belongs to it."""
        if self._resting:
            self._resting = False
            self._within(self._head_timeout, self.abort)
        if self._admitted:
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The caller will send no more."""
        return self.inner.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        """The caller does not take its answer as fast as it is written."""
        self.inner.pause_writing()
        self._taking = asyncio.get_running_loop().call_later(CONTENT, self.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stop_taking()
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._within(None, self.abort)
        self._stop_taking()
        self._listener.dismiss(self)
        if self._admitted:
            self.inner.connection_lost(exc)

    def _must_be_whole(self, request: web.Request) -> None:
        if not request.content.is_eof():
            self.abort()

    def _within(self, seconds: float | None, otherwise: Callable[[], object]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else asyncio.get_running_loop().call_later(seconds, otherwise)

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
