"""Fourteen reloads in four seconds (`python -m tests.benchmarks.reloads` makes fifty in thirty)."""

from __future__ import annotations

from tests.benchmarks.reloads import Run, verdict

RELOADS, SECONDS = 14, 4.5


async def test_reloads_under_load_lose_no_request_and_no_circuit_and_no_memory() -> None:
    figures = await Run(RELOADS, SECONDS).run()

    assert verdict(figures, RELOADS) == []
    assert figures.refused == 2
    assert figures.statuses.total() > 100
