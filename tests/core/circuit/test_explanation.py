from __future__ import annotations

import pytest

from sidecar.core.circuit.explanation import Cause, Override, OverrideMode, WindowView, share, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "0.25s"), (2.0, "2s"), (30.5, "30.5s"), (3600.0, "3600s"), (1e7, "10000000s")],
)
def test_a_duration_reads_as_in_the_configuration(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0.0, "0%"), (0.5, "50%"), (1 / 3, "33.3%"), (1.0, "100%")])
def test_a_share_reads_as_percent(rate: float, text: str) -> None:
    assert share(rate) == text


def test_the_rates_of_an_empty_window_are_zero() -> None:
    assert (WindowView().failure_rate, WindowView().slow_rate) == (0.0, 0.0)
    assert (WindowView(4, 1, 2).failure_rate, WindowView(4, 1, 2).slow_rate) == (0.25, 0.5)


def test_an_override_ends_at_its_time_or_never() -> None:
    bounded = Override(OverrideMode.OBSERVE, "", "", 0.0, 5.0)
    assert [bounded.ended(now) for now in (4.9, 5.0)] == [False, True]
    assert not Override(OverrideMode.OBSERVE, "", "", 0.0, None).ended(1e18)


def test_every_cause_has_a_label_of_its_own() -> None:
    assert len({cause.value for cause in Cause}) == len(Cause)
