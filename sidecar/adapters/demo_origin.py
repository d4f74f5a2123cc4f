"""The demo's origin: a small HTTP service, a process of its own, that fails on a schedule.

`python -m sidecar.adapters.demo_origin --listen 127.0.0.1:8080 --healthy 40 --failing 25`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

HEALTHY = 40.0
FAILING = 25.0
SHUTDOWN_TIMEOUT = 1.0
LATE = 0.05
"""A phase is announced so many seconds after it began: a timer that fires early would announce the one before."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`healthy` seconds of answers, then `failing` seconds of 503, and again from the start."""

    healthy: float = HEALTHY
    failing: float = FAILING

    def phase(self, elapsed: float) -> Phase:
        """Where the schedule stands `elapsed` seconds after it began."""
        at = elapsed % (self.healthy + self.failing)
        if at < self.healthy:
            return Phase(fails=False, remaining=self.healthy - at)
        return Phase(fails=True, remaining=self.healthy + self.failing - at)


@dataclass(frozen=True, slots=True)
class Phase:
    """Whether the origin fails now, and for how many more seconds it will be like that."""

    fails: bool
    remaining: float

    def __str__(self) -> str:
        return f"{'FAILING' if self.fails else 'healthy'} for the next {self.remaining:.0f} s"


class DemoOrigin:
    """Answers every path with JSON, or with 503 while its schedule says so; `now` is a monotonic clock, seconds.

    Its answers carry no Cache-Control, as those of many services do not.
    """

    def __init__(self, schedule: Schedule, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self._schedule = schedule
        self._now = now
        self._say = say
        self._start = now()
        self._answered = 0
        self._timer: asyncio.TimerHandle | None = None

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        app.cleanup_ctx.append(self._announce_phases)
        return app

    async def answer(self, request: web.Request) -> web.Response:
        """One answer, good or bad as the schedule says."""
        phase = self._phase()
        if phase.fails:
            return web.json_response({"error": "the demo origin fails on purpose"}, status=503, dumps=_line)
        self._answered += 1
        return web.json_response({"path": request.path, "answer": self._answered}, dumps=_line)

    def _phase(self) -> Phase:
        return self._schedule.phase(self._now() - self._start)

    async def _announce_phases(self, _app: web.Application) -> AsyncIterator[None]:
        self._announce(asyncio.get_running_loop())
        yield
        if self._timer is not None:
            self._timer.cancel()

    def _announce(self, loop: asyncio.AbstractEventLoop) -> None:
        phase = self._phase()
        self._say(f"demo origin: {phase}")
        self._timer = loop.call_later(phase.remaining + LATE, self._announce, loop)


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _parse(arguments)
    origin = DemoOrigin(Schedule(options.healthy, options.failing), time.monotonic, _say)
    web.run_app(
        origin.application(),
        sock=_listen(options.listen),
        print=None,
        access_log=None,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_origin", description="An HTTP origin that fails on a schedule.")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="host:port, or fd:N for a bound socket inherited")
    parser.add_argument("--healthy", type=float, default=HEALTHY, help="seconds of answers")
    parser.add_argument("--failing", type=float, default=FAILING, help="seconds of 503 after them")
    return parser.parse_args(arguments)


def _listen(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    if host == "fd":
        return socket.socket(fileno=int(port))
    return socket.create_server((host, int(port)))


def _line(document: object) -> str:
    return json.dumps(document) + "\n"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
