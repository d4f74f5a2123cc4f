"""A page of 1000 routes, asked for over a socket, while the loop has other things to do."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.configured import written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.app.conftest import Configure
    from tests.support.configured import Configured

ROUTES = 1000
LONGEST = 0.005
ACCEPT = {"text": "*/*", "OpenMetrics": "application/openmetrics-text"}


class Turns:
    """How much CPU the loop's thread takes between two turns of a callback: what would hold up a request. Unlike the
    time on a clock, that does not depend on what else the machine does.
    """

    def __init__(self) -> None:
        self._on = True
        self._last = time.thread_time()
        self.longest = 0.0
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if self._on:
            asyncio.get_running_loop().call_soon(self._turn)

    def stop(self) -> float:
        self._on = False
        return self.longest


@pytest.fixture
def no_collections() -> Iterator[None]:
    """The objects of a whole test run are many more than those of a sidecar, and take longer to look through."""
    gc.disable()
    yield
    gc.enable()


async def page(sidecar: Configured, accept: str) -> bytes:
    host, port = sidecar.addresses["telemetry"][0]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
    pieces = []
    while piece := await reader.read(16 * 1024):
        pieces.append(piece)
    writer.close()
    return b"".join(pieces)


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("accept", ACCEPT.values(), ids=ACCEPT)
async def test_a_scrape_never_holds_the_loop_up(configure: Configure, accept: str) -> None:
    upstreams = {f"shop-{number}": {"url": "http://127.0.0.1:1"} for number in range(ROUTES)}
    sidecar = await configure(written(upstreams))
    longest = []

    for _ in range(3):
        turns = Turns()
        content = await page(sidecar, accept)
        longest.append(turns.stop())
        assert content.count(b"sidecar_requests_in_flight{") == ROUTES

    # What the machine adds now and then (a page that is mapped, a core that is changed) it does not add each time.
    assert min(longest) < LONGEST, longest
