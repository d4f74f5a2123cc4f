from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.config import Rate, RateLimit
from sidecar.core.rate_limit import TokenBucket

PER_SECOND = Rate(10.0, 1.0)


def taken(bucket: TokenBucket, times: int, now: float) -> int:
    """How many of so many requests have a token at `now`."""
    return sum(bucket.take(now) == 0 for _ in range(times))


@pytest.mark.parametrize(
    ("limit", "at_once"),
    [
        (RateLimit(PER_SECOND, burst=25), 25),
        (RateLimit(PER_SECOND), 10),
        (RateLimit(Rate(5.0, 60.0)), 1),
        (RateLimit(Rate(1.0, 3600.0), burst=3), 3),
    ],
    ids=["a burst", "a second's worth", "at least one", "slow with a burst"],
)
def test_a_full_bucket_lets_its_burst_pass_and_no_more(limit: RateLimit, at_once: int) -> None:
    assert taken(TokenBucket(limit, 100.0), 50, 100.0) == at_once


def test_tokens_flow_in_at_the_rate_up_to_the_burst() -> None:
    bucket = TokenBucket(RateLimit(PER_SECOND, burst=20), 100.0)
    assert taken(bucket, 50, 100.0) == 20
    assert taken(bucket, 50, 100.5) == 5
    assert taken(bucket, 50, 3700.0) == 20


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(RateLimit(PER_SECOND, burst=1), 0.1), (RateLimit(Rate(6.0, 60.0)), 10.0), (RateLimit(Rate(1.0, 3600.0)), 3600.0)],
)
def test_an_empty_bucket_says_when_the_next_token_comes(limit: RateLimit, seconds: float) -> None:
    bucket = TokenBucket(limit, 0.0)
    bucket.take(0.0)
    assert bucket.take(0.0) == pytest.approx(seconds)
    assert bucket.take(seconds / 2) == pytest.approx(seconds / 2)
    assert bucket.take(seconds + 1e-6) == 0


def test_a_refusal_takes_no_token() -> None:
    bucket = TokenBucket(RateLimit(PER_SECOND, burst=1), 0.0)
    assert taken(bucket, 1000, 0.0) == 1
    assert bucket.take(0.1001) == 0


def test_another_limit_keeps_the_tokens_that_fit() -> None:
    bucket = TokenBucket(RateLimit(PER_SECOND, burst=20), 0.0)
    assert taken(bucket, 8, 0.0) == 8
    bucket.configure(RateLimit(PER_SECOND, burst=5), 0.0)
    assert taken(bucket, 50, 0.0) == 5
    bucket.configure(RateLimit(Rate(100.0, 1.0), burst=50), 0.0)
    assert taken(bucket, 50, 0.0) == 0
    assert taken(bucket, 50, 0.1001) == 10


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_never_more_pass_than_the_burst_and_what_flowed_in(pauses: list[float]) -> None:
    bucket, now, passed = TokenBucket(RateLimit(PER_SECOND, burst=7), 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0
        assert passed <= 7 + now * 10 + 1e-6
