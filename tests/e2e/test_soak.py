"""Ten seconds of the soak (`make soak` runs ten minutes)."""

from __future__ import annotations

from tests.benchmarks.soak import report, soak, verdict

SECONDS = 10.0


async def test_a_soak_finds_no_wrong_body_and_no_hang() -> None:
    figures = await soak(SECONDS, seed=1)

    report(figures, SECONDS)
    assert verdict(figures, SECONDS) == []
