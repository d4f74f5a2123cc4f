"""Renders the page without holding up the loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from prometheus_client.process_collector import ProcessCollector

from sidecar.adapters.metrics.exposition import Format, Kind, ending, head, negotiate
from sidecar.adapters.metrics.families import FAMILIES
from sidecar.adapters.metrics.samples import Scrape
from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from sidecar.core.report import Moment
    from sidecar.pipeline.data_plane import DataPlanePort
    from sidecar.pipeline.stats import ProcessStats

BLOCK = 16 * 1024
"""Characters encoded at once: a page of 1000 routes has millions, and it is felt when they are copied in one go."""


class Metrics:
    """Renders pages, one at a time. `moment` reads both clocks.

    What belongs to one object is read in one go, so that a histogram's count always equals its last bucket.
    """

    def __init__(self, version: str, stats: ProcessStats, plane: DataPlanePort, moment: Callable[[], Moment]) -> None:
        self._version = version
        self._stats = stats
        self._plane = plane
        self._moment = moment
        self._process = ProcessCollector(registry=None)
        self._rendering = asyncio.Lock()

    async def page(self, accept: str) -> tuple[list[bytes], str]:
        """The page in blocks and its content type, in the format that the Accept field `accept` asks for."""
        form = negotiate(accept)
        async with self._rendering:
            # In a thread: counting open descriptors takes milliseconds when there are thousands.
            process = await asyncio.to_thread(lambda: list(self._process.collect()))
            circuits = await self._plane.circuits.readings()
            moment = self._moment() if form is Format.OPEN_METRICS else None
            scrape = Scrape(self._version, self._stats, await self._plane.stats(), circuits, moment)
            blocks = await in_slices(_blocks(_pieces(scrape, process, form)), perf_counter)
        return blocks, form.value


def _pieces(scrape: Scrape, process: Iterable[Metric], form: Format) -> Iterator[str]:
    for family in FAMILIES:
        yield head(family.name, family.kind, family.meaning, form)
        yield from family.lines(family.name, scrape)
    for metric in process:
        yield head(metric.samples[0].name, Kind(metric.type), metric.documentation, form)
        yield from (f"{sample.name} {sample.value}\n" for sample in metric.samples)
    yield ending(form)


def _blocks(pieces: Iterable[str]) -> Iterator[bytes]:
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield "".join(waiting).encode()
            waiting.clear()
            size = 0
    yield "".join(waiting).encode()
