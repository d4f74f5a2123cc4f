"""A `FleetStore` that a test holds in its hands: it says what comes back, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from sidecar.core.circuit.explanation import State
from sidecar.core.fleet.messages import FleetView, LeaseAnswer, News, Record, Version
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.core.fleet.messages import Heard, LeaseWish, Push, Verdict, Word

T = TypeVar("T")

HALF_OPEN = Record("catalog", 9, State.HALF_OPEN)


class FakeFleetStore:
    """Remembers what it was told. With `broken` every call fails; with `held` it answers once that is set."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pushes: list[Push] = []
        self.wishes: list[LeaseWish] = []
        self.verdicts: list[Verdict] = []
        self.words: list[Word] = []
        self.broken = False
        self.held: asyncio.Event | None = None
        self.news = News(Version(1, 1), 1000.0, 1)
        self.record = HALF_OPEN
        self.answer = LeaseAnswer(granted=True, record=HALF_OPEN)
        self.seen = FleetView(fresh=True)
        self.heard: Callable[[Heard], None] | None = None
        self.closed = False

    async def version(self) -> Version | None:
        return await self._called("version", self.news.version)

    async def push(self, push: Push) -> News:
        self.pushes.append(push)
        return await self._called("push", self.news)

    async def lease(self, wish: LeaseWish) -> LeaseAnswer:
        self.wishes.append(wish)
        return await self._called("lease", self.answer)

    async def verdict(self, verdict: Verdict) -> Record:
        record = await self._called("verdict", self.record)
        self.verdicts.append(verdict)
        return record

    async def close_circuit(self, circuit: str, round_: int, detail: str) -> Record:  # noqa: ARG002 - the port's
        return await self._called("close", self.record)

    async def say(self, word: Word) -> Word:
        said = await self._called("say", word)
        self.words.append(word)
        return said

    async def view(self, circuits: Iterable[tuple[str, float]]) -> FleetView:  # noqa: ARG002 - the port's
        return await self._called("view", self.seen)

    async def leave(self, circuits: Iterable[str], leases: Iterable[tuple[str, str]]) -> None:  # noqa: ARG002 - the port's
        await self._called("leave", None)

    async def listen(self, heard: Callable[[Heard], None]) -> None:
        self.heard = heard
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True

    async def _called(self, name: str, answer: T) -> T:
        self.calls.append(name)
        if self.held is not None:
            await self.held.wait()
        if self.broken:
            raise StoreUnavailable("timeout", "nobody answers")
        return answer
