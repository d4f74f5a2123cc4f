"""Reading the configuration anew: because its file has changed, on SIGHUP, or because the admin API was asked to."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sidecar.adapters.config_file import load, load_text
from sidecar.adapters.file_stamp import file_stamp
from sidecar.config.change import judge
from sidecar.config.problem import Problem
from sidecar.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sidecar.adapters.file_stamp import Stamp
    from sidecar.config.change import ConfigChange, Reviewed
    from sidecar.config.load import Loaded
    from sidecar.core.config import Config
    from sidecar.core.events import EventRing
    from sidecar.pipeline.data_plane import Unusable
    from sidecar.pipeline.ports import Clock, Spawn
    from sidecar.pipeline.stats import ProcessStats

log = logging.getLogger(__name__)

MOST_NAMES = 100
"""Routes and settings that a log line or an event lists; it counts all routes."""
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
"""What a configuration that somebody sent sees of the environment: its secrets would come back in the answer."""
SETTLE = 0.1
"""Seconds for which a changed file must stay as it is before it is read."""
POSTED = "<posted>"
"""What a configuration that somebody sent is called in messages."""


class Reloader:
    """Reads and compares in a thread, because a large file takes seconds, and never twice at once.

    `take_up` makes a process use what was read, and gives what came of it; `running` gives what it uses now, and
    so the path of the file; `seen` is the file's stamp from before it was read for the first time.
    """

    def __init__(
        self,
        take_up: Callable[[Reviewed], Awaitable[Reviewed]],
        running: Callable[[], Config],
        spawn: Spawn,
        seen: Stamp = None,
    ) -> None:
        self._take_up = take_up
        self._running = running
        self._spawn = spawn
        self._reading = asyncio.Lock()
        self._taking_up = asyncio.Lock()
        self._closed = False
        self._requested = False
        self._looked_at: tuple[Stamp, ...] = (file_stamp(running().source) if seen is None else seen,)
        self._awaited: tuple[str, ...] = ()

    def request(self) -> None:
        """Reload soon. Requests that come before the file is opened make one reload."""
        if not self._requested:
            self._requested = True
            self._spawn(self._answer_request(), name="reload")

    async def reload(self) -> Reviewed:
        """Read the file and use what it says, unless there is an error in it."""
        async with self._reading:
            self._requested = False
            return await self._read()

    async def close(self) -> None:
        """Let the process end as it is: nothing is taken up any more, once this has returned."""
        async with self._taking_up:
            self._closed = True

    async def check(self, text: str | None) -> Reviewed:
        """What a reload would do if `text`, or None for the file as it is now, were the file; changes nothing."""
        async with self._reading:
            return await asyncio.to_thread(self._judge, text)

    async def watch(self) -> None:
        """Look at the file now and then, as its `reload` says, for as long as the task lives; reload when it changed.

        Nothing in a pod tells of a change, and what is edited in place may be half written: only what stays as it is
        for a moment is read. What could not be used is told once, and read again when it changes, or a file that it
        names.
        """
        while True:
            await asyncio.sleep(self._running().reload.interval)
            if self._running().reload.watch and (seen := self._look()) != self._looked_at:
                await self._settled(seen)
                await self._reload_if_changed()

    async def _settled(self, seen: tuple[Stamp, ...]) -> None:
        while True:
            await asyncio.sleep(SETTLE)
            before, seen = seen, self._look()
            if seen == before:
                return

    async def _reload_if_changed(self) -> None:
        async with self._reading:
            # It may have been read meanwhile, because somebody asked.
            if self._look() != self._looked_at:
                await self._read()

    async def _read(self) -> Reviewed:
        """Looks before it reads: what changes while it reads is seen the next time."""
        before = self._look()
        reviewed = await asyncio.to_thread(self._judge, None)
        async with self._taking_up:
            if self._closed:
                return replace(reviewed, change=None)
            reviewed = await self._take_up(reviewed)
        self._awaited = reviewed.loaded.files if reviewed.change is None else ()
        self._looked_at = (before[0], *map(file_stamp, self._awaited))
        return reviewed

    def _look(self) -> tuple[Stamp, ...]:
        return (file_stamp(self._running().source), *map(file_stamp, self._awaited))

    async def _answer_request(self) -> None:
        await self.reload()

    def _judge(self, text: str | None) -> Reviewed:
        running = self._running()
        loaded = load(Path(running.source), os.environ) if text is None else load_text(text, NO_VARIABLES, POSTED)
        return judge(running, loaded)


class ReloadRecord:
    """Tells of reloads in the log, the metrics and the events (breaker.md 26)."""

    def __init__(self, stats: ProcessStats, events: EventRing, clock: Clock) -> None:
        self._stats = stats
        self._events = events
        self._clock = clock

    def note(self, reviewed: Reviewed) -> None:
        """One reload was tried."""
        succeeded = reviewed.change is not None
        self._stats.reloads["success" if succeeded else "error"] += 1
        self._stats.last_reload_ok = succeeded
        if reviewed.change is None:
            self._failed(reviewed.loaded)
        else:
            self._succeeded(reviewed.loaded, reviewed.change)

    def _failed(self, loaded: Loaded) -> None:
        details = {"errors": _listed(loaded.errors)}
        message = f"{loaded.source} is invalid and was not loaded: {counted(len(loaded.errors), 'error')}"
        log.error(message, extra=details)
        self._events.append(self._clock.wall(), "reload_failed", message, details=details)

    def _succeeded(self, loaded: Loaded, change: ConfigChange) -> None:
        waiting = change.needs_restart
        details = {
            "changed": list(change.changed[:MOST_NAMES]),
            "difference": list(change.difference[:MOST_NAMES]),
            "needs_restart": list(waiting),
            "warnings": _listed(loaded.problems),
        }
        message = f"{loaded.source} was loaded: {counted(len(change.changed), 'route')} changed"
        if waiting:
            message += f"; needs a restart: {', '.join(waiting)}"
        log.log(logging.WARNING if waiting else logging.INFO, message, extra=details)
        self._events.append(self._clock.wall(), "reload", message, details=details)


def unusable(loaded: Loaded, error: Unusable) -> Loaded:
    """What was read, as the error that came up when it was to be used."""
    line = int(error.ref.rpartition(":")[2] or 1)
    problem = Problem(line, 1, str(error), error.hint)
    return replace(loaded, config=None, problems=(*loaded.problems, problem))


def _listed(problems: Iterable[Problem]) -> list[str]:
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in problems]
