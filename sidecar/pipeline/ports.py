"""What the pipeline asks of the world, and what the world may ask of it. Adapters implement these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from sidecar.pipeline.exchange import Request, Response


class Clock(Protocol):
    """Time. Everything that waits or measures uses `monotonic`; `wall` is for dates that leave the process."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never steps."""

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may step either way."""


class Spawn(Protocol):
    """The one way to start a task: its owner logs what it raises and cancels it at shutdown."""

    def __call__(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` in the background."""


class Handler(Protocol):
    """A stage, or the whole stack.

    The server first calls `answer_now`, outside any task: an answer that needs no waiting, or None. Only after None
    does it call `answer`, inside a task. Nothing may be acquired by an `answer_now` that returns None, since the task
    that would release it may be cancelled before it first runs. Both may raise ProxyError.
    """

    def answer_now(self, request: Request) -> Response | None:
        """An answer from memory, or None when it takes an upstream."""

    async def answer(self, request: Request) -> Response:
        """The answer, whatever it takes."""
