"""A second attempt beside a slow first one: whichever answers well first is taken, and the other is cancelled.

Each runs in a task of its own, for who waits must be able to look up while the first goes on. A cancelled attempt gives
its connection up and settles its permit as cancelled, which is no failure; one that was answered counts by its status.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from sidecar.pipeline.errors import CircuitOpen, Draining, InternalError, ProxyError, forget_frames
from sidecar.pipeline.message import Body, BodyEnd, Repeat, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Handler, Spawn
    from sidecar.pipeline.stats import UpstreamStats

Answer: TypeAlias = Response | ProxyError


class Contender:
    """One of two attempts at the same request, under way since `started`."""

    __slots__ = ("_answer", "_task", "request", "started")

    def __init__(self, inner: Handler, request: Request, spawn: Spawn, now: float) -> None:
        self.request = request
        self.started = now
        self._answer: Answer | None = None
        self._task = spawn(self._run(inner), name="attempt")

    @property
    def done(self) -> bool:
        """Whether it has an answer."""
        return self._task.done()

    def answer(self) -> Answer:
        """What came of it, now that it is done; whoever takes it owns the body."""
        answer, self._answer = self._answer, None
        if answer is not None:
            return answer
        return Draining("the attempt was given up") if self._task.cancelled() else InternalError("the attempt failed")

    def answered(self, well: Callable[[Response], bool]) -> bool:
        """Whether there is a response, and a good one."""
        return isinstance(self._answer, Response) and well(self._answer)

    @property
    def refused(self) -> bool:
        """Whether the circuit has kept it from being made."""
        return isinstance(self._answer, CircuitOpen)

    async def give_up(self) -> None:
        """Nobody wants it any more. Returns when it has ended, so that its request tells what was done."""
        try:
            if self._task.cancel():
                await asyncio.wait((self._task,))
        finally:
            if isinstance(self._answer, Response):
                discard(self._answer)

    async def _run(self, inner: Handler) -> None:
        try:
            self._answer = await inner.handle(self.request)
        except ProxyError as error:
            forget_frames(error)
            self._answer = error

    @staticmethod
    async def first_done(*contenders: Contender, within: float | None = None) -> None:
        """Wait until one that was not done is."""
        waiting = [contender._task for contender in contenders if not contender._task.done()]  # noqa: SLF001 - its own class
        await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)


class Race:
    """The attempts at one request, which `inner` carries out. `well` says whether an answer is worth taking."""

    __slots__ = ("_inner", "_monotonic", "_spawn", "_stats", "_well")

    def __init__(
        self,
        inner: Handler,
        stats: UpstreamStats,
        spawn: Spawn,
        monotonic: Callable[[], float],
        well: Callable[[Response], bool],
    ) -> None:
        self._inner = inner
        self._stats = stats
        self._spawn = spawn
        self._monotonic = monotonic
        self._well = well

    async def run(self, request: Request, delay: float, permitted: Callable[[Request], bool]) -> Answer:
        """The answer to `request`; after `delay` seconds without one a second attempt is made, if it is `permitted`."""
        first = Contender(self._inner, request, self._spawn, self._monotonic())
        try:
            await Contender.first_done(first, within=delay)
            if first.done or not permitted(request):
                if not first.done:
                    await Contender.first_done(first)
                return first.answer()
            return await self._race(first)
        finally:
            await first.give_up()

    async def _race(self, first: Contender) -> Answer:
        second = Contender(self._inner, hedge_of(first.request), self._spawn, self._monotonic())
        winner: Contender | None = None
        try:
            while winner is None:
                await Contender.first_done(first, second)
                winner = self._winner(first, second)
            loser = second if winner is first else first
            self._count_loser(loser)
            result = "success" if winner is second else "failure" if second.done else "cancelled"
            if not second.refused:
                self._stats.hedges[result] += 1
            # Nothing is awaited once the answer is taken: whoever is cancelled then could not let go of it.
            await loser.give_up()
            return winner.answer()
        finally:
            if winner is None:
                self._stats.hedges["cancelled"] += 1
            await second.give_up()
            if winner is first:
                second.request.asked = ""
            first.request.account_for(second.request)

    def _winner(self, first: Contender, second: Contender) -> Contender | None:
        for contender in (first, second):
            if contender.done and contender.answered(self._well):
                return contender
        return first if first.done and second.done else None

    def _count_loser(self, loser: Contender) -> None:
        """A cancelled attempt would have taken longer: were it not counted, the measured times would shrink."""
        if not loser.done:
            self._stats.attempt_durations.observe(self._monotonic() - loser.started)


def hedge_of(request: Request) -> Request:
    """A copy of `request` for a second attempt beside the first, at another endpoint if there is one."""
    twin = request.twin()
    avoid = frozenset[object]() if request.endpoint is None else frozenset({request.endpoint})
    twin.repeat = Repeat(2, avoid)
    twin.on_interim = twin.on_half_close = twin.on_sent = None
    return twin


def discard(response: Response) -> None:
    """Let go of an answer that nobody gets; it counts by its status."""
    if isinstance(response.body, Body):
        response.body.close(BodyEnd.DISCARDED)
