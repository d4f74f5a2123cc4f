"""Long synchronous work on the event loop, cut into slices between which the loop serves everybody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SLICE = 0.0005
"""Seconds of work after which the loop gets its turn."""

T = TypeVar("T")


async def in_slices(pieces: Iterable[T], elapsed: Callable[[], float]) -> list[T]:
    """Everything that the iteration of `pieces`, where the work is done, gives; each piece is short work.

    `elapsed`: seconds on any clock that does not stand still while work is done.
    """
    done: list[T] = []
    slice_end = elapsed() + SLICE
    for piece in pieces:
        done.append(piece)
        if elapsed() > slice_end:
            await asyncio.sleep(0)
            slice_end = elapsed() + SLICE
    return done
