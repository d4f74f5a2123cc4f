from __future__ import annotations

import pytest

from sidecar.core.config import BudgetSettings, RetryBackoff, RetryCause, RetrySettings
from sidecar.core.http.heads import Headers, RequestHead
from sidecar.core.retry import (
    BUDGET_WINDOW,
    FEWEST_MEASURED,
    RecentDurations,
    RetryBudget,
    RetryRules,
    is_repeated,
    quantile,
)

BOUNDS = (0.1, 0.2, 0.4)


def head(method: str, *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(method, b"/", Headers(fields))


@pytest.mark.parametrize(
    ("settings", "method", "fields", "repeats"),
    [
        *[(RetrySettings(), method, (), True) for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")],
        *[(RetrySettings(), method, (), False) for method in ("POST", "PATCH", "PURGE")],
        (RetrySettings(), "POST", [(b"Idempotency-Key", b"1")], False),
        (RetrySettings(idempotency_key=True), "POST", [(b"Idempotency-Key", b"1")], True),
        (RetrySettings(idempotency_key=True), "POST", (), False),
        (RetrySettings(idempotency_key=True), "PATCH", [(b"Idempotency-Key", b"1")], False),
        (RetrySettings(methods=frozenset({"GET"})), "PUT", (), False),
        (RetrySettings(methods=frozenset({"idempotent", "POST"})), "POST", (), True),
        (RetrySettings(methods=frozenset({"idempotent", "POST"})), "PUT", (), True),
    ],
)
def test_what_may_be_sent_twice(
    settings: RetrySettings, method: str, fields: list[tuple[bytes, bytes]], *, repeats: bool
) -> None:
    assert RetryRules(settings).repeats(head(method, *fields)) is repeats


def test_causes_and_statuses_are_told_apart() -> None:
    rules = RetryRules(RetrySettings(on=frozenset({RetryCause.TIMEOUT, 503})))
    assert rules.causes == {RetryCause.TIMEOUT}
    assert rules.statuses == {503}


def test_waits_are_random_below_a_limit_that_doubles_up_to_the_most() -> None:
    rules = RetryRules(RetrySettings(backoff=RetryBackoff(base=0.1, max=0.3)))
    assert [rules.wait(retry, None, 1.0) for retry in (1, 2, 3, 60)] == [0.1, 0.2, 0.3, 0.3]
    assert [rules.wait(retry, None, 0.0) for retry in (1, 2, 3)] == [0.0, 0.0, 0.0]
    assert rules.wait(2, None, 0.5) == 0.1


@pytest.mark.parametrize(("asked", "wait"), [(0.0, 0.0), (1.0, 1.0), (1.5, None), (3600.0, None)])
def test_what_the_upstream_asks_for_wins_unless_it_is_too_long(asked: float, wait: float | None) -> None:
    assert RetryRules(RetrySettings()).wait(1, asked, 0.7) == wait


def test_a_request_that_somebody_repeats_says_so() -> None:
    assert is_repeated(head("GET", (b"x-SIDECAR-attempt", b"2")))
    assert not is_repeated(head("GET", (b"X-Other", b"2")))


# The budget


def count(budget: RetryBudget, requests: int, now: float) -> None:
    budget.turn(now)
    budget.requests += requests


def spend_all(budget: RetryBudget, settings: BudgetSettings, now: float) -> int:
    spent = 0
    while budget.spend(settings, now):
        spent += 1
    return spent


def test_a_budget_is_a_share_of_ten_seconds_and_their_floor() -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.2, floor=3)
    assert budget.available(settings, 1000.0) == 30
    count(budget, 100, 1000.0)
    assert spend_all(budget, settings, 1000.5) == 20 + 3 * BUDGET_WINDOW
    assert budget.available(settings, 1000.9) == 0


def test_the_floor_is_there_in_every_second_however_much_was_spent() -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.0, floor=3)
    spend_all(budget, settings, 1000.0)
    assert [spend_all(budget, settings, 1000.0 + second) for second in range(1, BUDGET_WINDOW)] == [3] * 9


def test_neither_share_nor_floor_is_no_retry() -> None:
    assert spend_all(RetryBudget(), BudgetSettings(share=0.0, floor=0), 1000.0) == 0
    budget = RetryBudget()
    count(budget, 9, 1000.0)
    assert spend_all(budget, BudgetSettings(share=0.1, floor=0), 1000.0) == 0, "nine tenths of a retry are none"


@pytest.mark.parametrize(("later", "left"), [(0.9, 10), (9.0, 10), (10.0, 0), (11.0, 0), (3e7, 0)])
def test_requests_count_for_ten_seconds(later: float, left: int) -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.1, floor=0)
    count(budget, 100, 1000.0)
    assert budget.available(settings, 1000.0 + later) == left


def test_retries_are_forgotten_after_ten_seconds_too() -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.0, floor=1)
    assert spend_all(budget, settings, 1000.0) == 10
    assert budget.available(settings, 1009.9) == 1
    assert budget.available(settings, 1010.0) == 10


def test_looking_at_a_budget_and_an_earlier_time_change_nothing() -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.5, floor=0)
    count(budget, 10, 1005.0)
    budget.turn(1001.0)
    assert [budget.available(settings, 1005.0) for _ in range(3)] == [5, 5, 5]


def test_a_budget_that_observes_counts_on() -> None:
    budget = RetryBudget()
    observing = BudgetSettings(share=0.0, floor=0, observe=True)
    assert [budget.spend(observing, 1000.0) for _ in range(2)] == [False, False]
    assert budget.available(BudgetSettings(share=0.0, floor=1), 1000.0) == 8


def test_the_long_run_stays_within_one_plus_the_share() -> None:
    budget, settings = RetryBudget(), BudgetSettings(share=0.2, floor=1)
    retries = 0
    for tick in range(100 * 100):
        now = 1000.0 + tick / 100
        count(budget, 3, now)
        retries += budget.spend(settings, now) + budget.spend(settings, now)
    assert retries / 30_000 < 0.2 + 0.01


# Measured durations


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0, 0], None),
        ([FEWEST_MEASURED - 1, 0, 0, 0], None),
        ([20, 0, 0, 0], 0.095),
        ([90, 10, 0, 0], 0.15),
        ([0, 0, 100, 0], 0.39),
        ([0, 0, 0, 100], 0.4),
    ],
)
def test_a_p95_is_interpolated_within_its_bucket(counts: list[int], expected: float | None) -> None:
    found = quantile(BOUNDS, counts)
    assert found == (None if expected is None else pytest.approx(expected))


def test_what_was_measured_long_ago_is_forgotten() -> None:
    recent, counts = RecentDurations(), [100, 0, 0, 0]
    assert recent.p95(BOUNDS, counts, 1000.0) == pytest.approx(0.095)
    counts[2] += 100
    assert recent.p95(BOUNDS, counts, 1011.0) == pytest.approx(0.39), "since the last ten seconds began"
    counts[1] += 5
    assert recent.p95(BOUNDS, counts, 1022.0) == pytest.approx(0.39, abs=0.02), "five are too few to go by"
