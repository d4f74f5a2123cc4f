"""The real clocks."""

from __future__ import annotations

import time


class RealClock:
    """The `Clock` of a process."""

    __slots__ = ("monotonic", "wall")

    def __init__(self) -> None:
        # The functions themselves, not methods around them: they are read several times per request.
        self.monotonic = time.monotonic
        self.wall = time.time
