"""What goes on whether or not requests come: one endless task for each thing that the configuration wants tended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from sidecar.pipeline.ports import Spawn


@dataclass(frozen=True, slots=True)
class Work:
    """One endless task; it begins anew when `depends_on` is no longer equal to what it was."""

    name: str
    depends_on: tuple[object, ...]
    run: Callable[[], Coroutine[Any, Any, None]]


class Monitors:
    """Endless tasks, as the configuration in force wants them."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._running: dict[str, tuple[Work, asyncio.Task[None]]] = {}

    def follow(self, works: Iterable[Work]) -> None:
        """Begin what `works` has, end what it no longer has, and leave alone what did not change."""
        wanted = {work.name: work for work in works}
        for name, (work, task) in list(self._running.items()):
            if name not in wanted or wanted[name].depends_on != work.depends_on:
                task.cancel()
                del self._running[name]
        for name, work in wanted.items():
            if name not in self._running:
                self._running[name] = (work, self._spawn(work.run(), name=name))

    def close(self) -> None:
        """End everything."""
        for _, task in self._running.values():
            task.cancel()
        self._running.clear()
