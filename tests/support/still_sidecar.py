"""The whole sidecar in this process, on a clock that moves only when told: exact ages through real sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecar.adapters.config_file import load_text
from sidecar.app import build
from sidecar.core.http.date import format_http_date
from tests.support.running import InProcess, config_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.origin import RawOrigin

START = 1_000_000_000.0
"""Wall time at which every still sidecar begins: Sun, 09 Sep 2001 01:46:40 GMT."""
BEGIN = 5_000.0
"""Monotonic time at which every still sidecar begins."""


class StillClock:
    """Both clocks stand still; `advance` moves them together."""

    def __init__(self) -> None:
        self.now = BEGIN

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now - BEGIN + START

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def date(self, seconds: float = 0.0) -> bytes:
        """The HTTP-date of `seconds` from now."""
        return format_http_date(self.wall() + seconds)


@dataclass
class StillSidecar(InProcess):
    """A sidecar whose time belongs to the test. Its upstream connections are not reused once a minute has passed."""

    clock: StillClock = field(default_factory=StillClock)

    async def state(self, circuit: str = "all") -> str:
        """The circuit's automatic state."""
        return str((await self.api("GET", f"/v1/circuits/{circuit}"))["state"])


@asynccontextmanager
async def still_sidecar(origin: RawOrigin | str | list[str] | None, **blocks: Any) -> AsyncIterator[StillSidecar]:
    """Build and start it; afterwards nothing may be in flight in it."""
    loaded = load_text(config_text(origin, **blocks), {})
    assert loaded.config is not None, loaded.problems
    clock = StillClock()
    app = build(loaded.config, clock)
    await app.start()
    sidecar = StillSidecar(app.addresses, app=app, clock=clock)
    try:
        yield sidecar
        sidecar.hang_up()
        assert await sidecar.is_quiet()
    finally:
        sidecar.hang_up()
        await sidecar.stop()
