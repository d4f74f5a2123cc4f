"""The rehearsal's clients: requests at a steady rate, however long the answers take, and what became of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

UPSTREAM, FALLBACK, NOTHING = "upstream", "fallback", "nothing"
HTTP_OK = 200


class Answered(NamedTuple):
    """When a request was due, how long its client waited from then on, and who answered; seconds."""

    due: float
    took: float
    by: str


class SteadyLoad:
    """GETs of `url` at `rate` per second, as many clients as that takes, each of which waits for `patience` seconds.

    A request is timed from when it was due: a client that is late because others wait is not to look fast.
    """

    def __init__(self, url: str, rate: float, patience: float, now: Callable[[], float]) -> None:
        self.answers: list[Answered] = []
        self._url = url
        self._rate = rate
        self._timeout = aiohttp.ClientTimeout(total=patience)
        self._now = now

    async def run(self, begin: float, duration: float) -> None:
        """Send from `begin` on, and wait for the last answer."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
            asyncio.TaskGroup() as clients,
        ):
            for number in range(int(duration * self._rate)):
                due = begin + number / self._rate
                await asyncio.sleep(due - self._now())
                clients.create_task(self._get(session, f"{self._url}?{number}", due))

    async def _get(self, session: aiohttp.ClientSession, url: str, due: float) -> None:
        try:
            async with session.get(url) as response:
                await response.read()
            by = FALLBACK if "X-Sidecar-Fallback" in response.headers else UPSTREAM
            if response.status != HTTP_OK:
                by = NOTHING
        except (aiohttp.ClientError, TimeoutError):
            by = NOTHING
        self.answers.append(Answered(due, self._now() - due, by))
