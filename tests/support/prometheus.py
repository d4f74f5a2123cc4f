"""A real Prometheus that scrapes one target, and the questions that alerts and dashboards ask it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

READY = b"Server is ready to receive web requests"
LISTENING = re.compile(rb'msg="Listening on" address=(\S+)')


class Prometheus:
    """Scrapes ten times a second."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._api = f"http://{address}/api/v1"
        self._session = session

    async def ask(self, query: str) -> list[float]:
        """The values of an instant query, one per series."""
        answer = await self._get("query", query=query)
        return [float(sample["value"][1]) for sample in answer["result"]]

    async def traces(self, query: str) -> set[str]:
        """The trace ids of the exemplars of the series of a query, from the last minute."""
        now = time.time()
        found = await self._get("query_exemplars", query=query, start=str(now - 60), end=str(now + 1))
        return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

    async def _get(self, call: str, **parameters: str) -> Any:
        async with self._session.get(f"{self._api}/{call}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def until(self, query: str) -> list[float]:
        """Wait until `query`, a comparison, holds for some series."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (found := await self.ask(query)):  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never true: {query}") from None
        return found


@asynccontextmanager
async def prometheus(folder: Path, target: tuple[str, int]) -> AsyncIterator[Prometheus]:
    """Run one, with its data under `folder`, that scrapes `target`."""
    config = _configuration(folder, target)
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        address = await _ready(process.stderr)
        reading = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            yield Prometheus(address, session)
    finally:
        process.kill()
        await process.wait()
        if reading is not None:
            await reading


def _configuration(folder: Path, target: tuple[str, int]) -> Path:
    folder.mkdir()
    scrape = {"job_name": "sidecar", "static_configs": [{"targets": [f"{target[0]}:{target[1]}"]}]}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "100ms"}, "scrape_configs": [scrape]}))
    return config


async def _ready(log: asyncio.StreamReader) -> str:
    """Wait until it answers; where."""
    address, ready = "", False
    async with asyncio.timeout(PATIENCE):
        while not (address and ready):
            line = await log.readline()
            assert line, "prometheus ended"
            ready = ready or READY in line
            if found := LISTENING.search(line):
                address = found[1].decode()
    return address
