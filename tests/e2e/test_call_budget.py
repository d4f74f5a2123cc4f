"""How many Python calls a request of real traffic may cost: a change that makes the common path dearer fails here.

Times vary with the machine, calls do not. `make bench` prints the same numbers beside its times.
"""

from __future__ import annotations

import pytest

from tests.support.call_count import WORK, calls_of

BUDGET = {
    "real-get": 80,
    "real-post": 88,
    "real-hits": 42,
    "real-refused": 52,
    "real-stale": 70,
    "real-get-guarded": 97,
}


def test_every_work_has_a_budget() -> None:
    assert BUDGET.keys() == WORK.keys()


@pytest.mark.parametrize("work", BUDGET)
async def test_a_request_costs_no_more_calls_than_its_budget(work: str) -> None:
    counted = await calls_of(WORK[work])

    # None at all would mean that nothing was counted.
    assert 10 < counted.total <= BUDGET[work], str(counted)
