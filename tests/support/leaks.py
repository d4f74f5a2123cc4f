"""What a test may not leave behind: descriptors of this process, tasks of its loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from pathlib import Path

from tests.support.wire import eventually

GRACE = 3.0
"""Seconds that closing connections and ending tasks may take after a test."""


def descriptors() -> dict[int, str]:
    """Open descriptors and what they refer to, without files that libraries keep for good."""
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this very listing
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found[int(entry.name)] = target
    return found


def left_open(before: dict[int, str]) -> dict[int, str]:
    """The descriptors that are open now and were not then, given a grace to close."""
    deadline = time.monotonic() + GRACE
    while (left := _new(before)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return left


def _new(before: dict[int, str]) -> dict[int, str]:
    return {fd: target for fd, target in descriptors().items() if before.get(fd) != target}


async def still_running(before: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """The tasks of this loop that run now and did not then, given a grace to end."""
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: _tasks() <= before, within=GRACE)
    return _tasks() - before


def _tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}
