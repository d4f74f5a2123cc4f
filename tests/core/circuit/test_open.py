from __future__ import annotations

import pytest

from sidecar.core.circuit.open import LONGEST_DELAY, OpenPeriod, parse_retry_after, period_length
from sidecar.core.config import Backoff, BreakerSettings

NOW = 784_111_777.0


def settings(multiplier: float = 2.0, longest: float = 100.0, jitter: float = 0.0) -> BreakerSettings:
    return BreakerSettings(open_duration=15.0, backoff=Backoff(multiplier, longest, jitter))


@pytest.mark.parametrize(
    ("reopenings", "expected"),
    [(0, 15.0), (1, 30.0), (2, 60.0), (3, 100.0), (5000, 100.0)],
    ids=["first", "second", "third", "capped", "beyond any float"],
)
def test_the_period_grows_with_each_reopening_up_to_the_maximum(reopenings: int, expected: float) -> None:
    assert period_length(settings(), reopenings, lambda: 0.5, None) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 12.0), (0.5, 15.0), (1.0, 18.0)])
def test_jitter_spreads_the_period_both_ways(chance: float, expected: float) -> None:
    assert period_length(settings(jitter=0.2), 0, lambda: chance, None) == pytest.approx(expected)


def test_jitter_never_exceeds_the_maximum() -> None:
    assert period_length(settings(jitter=0.2), 10, lambda: 1.0, None) == 100.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 15.0), (0.0, 15.0), (3.0, 15.0), (40.0, 40.0), (1e9, 100.0)],
    ids=["nothing", "zero", "shorter", "longer", "huge"],
)
def test_the_upstream_may_lengthen_the_period_up_to_the_maximum(asked: float | None, expected: float) -> None:
    assert period_length(settings(), 0, lambda: 0.5, asked) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"120", 120.0),
        (b" 7 ", 7.0),
        (b"0", 0.0),
        (b"999999999", 999_999_999.0),
        (b"9" * 5000, float(LONGEST_DELAY)),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        (b"Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        (b"Sun Nov  6 08:50:37 1994", 60.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", float(LONGEST_DELAY)),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", None),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", None),
        (b"", None),
        (b"-5", None),
        (b"+5", None),
        (b"1.5", None),
        (b"1_000", None),
        (b"\xb2", None),
        (b"5, 10", None),
        (b"soon", None),
        (b"Sun, 31 Feb 2094 08:49:37 GMT", None),
        (b"nan", None),
        (b"inf", None),
    ],
)
def test_retry_after_is_read_strictly(value: bytes, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@pytest.mark.parametrize(
    ("now", "after"), [(0.0, 10), (0.5, 10), (1.0, 9), (9.5, 1), (9.999, 1)], ids=lambda value: f"{value:g}"
)
def test_while_it_lasts_it_refuses_for_the_time_left_rounded_up(now: float, after: int) -> None:
    refusal = OpenPeriod(10.0, "it failed").refusal(now)
    assert refusal is not None
    assert (refusal.retry_after, refusal.why) == (after, "the circuit is open: it failed")
    assert refusal.detail == f"the circuit is open: it failed; ask again in {after} s"


@pytest.mark.parametrize("now", [10.0, 11.0])
def test_a_period_that_is_over_refuses_nobody(now: float) -> None:
    assert OpenPeriod(10.0, "it failed").refusal(now) is None


def test_refusals_of_one_second_are_one_object_whatever_the_order_of_the_questions() -> None:
    period = OpenPeriod(10.0, "it failed")
    first, same, later, again = (period.refusal(now) for now in (1.0, 1.9, 2.0, 1.0))
    assert first is same
    assert later is not first
    assert again == first
