"""The rehearsal's origin: an HTTP service with few workers, a process of its own, that does badly when it is told to.

`python -m sidecar.adapters.demo_bottleneck --listen fd:7`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKERS = 20
SERVICE_TIME = 0.02
STUCK = 2.0
"""Seconds for which a request holds its worker while the origin is slow, unless it gets well before."""
MODES = ("healthy", "faltering", "slow")
ATTEMPT_FIELD = "X-Sidecar-Attempt"
SHUTDOWN_TIMEOUT = 0.1


class Bottleneck:
    """Each request takes one of the workers for the service time. Faltering, every second request is answered 503;
    slow, it is as if each waited for a lock that nobody gives back until the origin is healthy again.

    `PUT /_mode/{mode}` says how it is to do, `GET /_counts` how many requests have come, and which were repeated ones.
    """

    def __init__(self) -> None:
        self._workers = asyncio.Semaphore(WORKERS)
        self._mode = "healthy"
        self._not_slow = asyncio.Event()
        self._not_slow.set()
        self._counts = {"first": 0, "repeated": 0}

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_put("/_mode/{mode}", self._change)
        app.router.add_get("/_counts", self._show)
        app.router.add_get("/{path:.*}", self._answer)
        return app

    async def _change(self, request: web.Request) -> web.Response:
        mode = request.match_info["mode"]
        if mode not in MODES:
            raise web.HTTPNotFound(text=f"the modes are {', '.join(MODES)}")
        self._mode = mode
        if mode == "slow":
            self._not_slow.clear()
        else:
            self._not_slow.set()
        return web.Response(status=204)

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response(self._counts)

    async def _answer(self, request: web.Request) -> web.Response:
        self._counts["repeated" if ATTEMPT_FIELD in request.headers else "first"] += 1
        fails = self._mode == "faltering" and sum(self._counts.values()) % 2 == 0
        async with self._workers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._not_slow.wait(), STUCK)
            await asyncio.sleep(SERVICE_TIME)
        return web.Response(status=503 if fails else 200, text="busy\n" if fails else "done\n")


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="demo_bottleneck", description="An HTTP origin that is slow when told to.")
    parser.add_argument("--listen", required=True, help="fd:N, a bound socket inherited")
    descriptor = int(parser.parse_args(arguments).listen.removeprefix("fd:"))
    web.run_app(
        _made(),
        sock=socket.socket(fileno=descriptor),
        print=None,
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
    )


async def _made() -> web.Application:
    return Bottleneck().application()


if __name__ == "__main__":
    main(sys.argv[1:])
