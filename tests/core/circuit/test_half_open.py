from __future__ import annotations

import pytest

from sidecar.core.circuit.half_open import MAX_ASIDE, UNDER_WAY, Probes
from sidecar.core.circuit.permit import Role
from sidecar.core.config import BreakerSettings

TWO = BreakerSettings(half_open_probes=2, probe_timeout=10.0)


@pytest.mark.parametrize(
    ("probes", "out", "now", "free"),
    [
        (1, [], 0.0, True),
        (1, [0.0], 9.9, False),
        (1, [0.0], 10.0, True),
        (2, [0.0], 0.0, True),
        (2, [0.0, 5.0], 9.9, False),
        (2, [0.0, 5.0], 10.0, True),
        (0, [], 0.0, True),
        (0, [0.0], 9.9, False),
    ],
    ids=[
        "none out", "one of one", "one of one overdue", "one of two", "two of two", "the older overdue",
        "one is always possible", "but not two",
    ],
)  # fmt: skip
def test_a_permit_is_free_while_fewer_are_out_or_the_oldest_is_overdue(
    probes: int, out: list[float], now: float, *, free: bool
) -> None:
    half_open = Probes()
    for started in out:
        half_open.take(1, started)
    settings = BreakerSettings(half_open_probes=probes, probe_timeout=10.0)
    assert half_open.free(now, settings) is free
    assert half_open.free(now, settings) is free


def test_a_probe_carries_its_generation_and_its_start() -> None:
    permit = Probes().take(7, 3.0)
    assert (permit.role, permit.generation, permit.started) == (Role.PROBE, 7, 3.0)


def test_a_permit_is_given_back_once() -> None:
    probes = Probes()
    permit = probes.take(1, 0.0)
    assert probes.give_back(permit) is True
    assert probes.give_back(permit) is False
    assert probes.in_flight(0.0, 10.0) == 0


def test_the_oldest_comes_first_and_the_overdue_are_not_in_flight() -> None:
    probes = Probes()
    first, second = (probes.take(1, started) for started in (0.0, 1.0))
    assert [probes.in_flight(now, 10.0) for now in (9.9, 10.0, 11.0)] == [2, 1, 0]
    order = []
    while (oldest := probes.oldest()) is not None:
        order.append(oldest)
        probes.give_back(oldest)
    assert (order, len(probes), probes.free(0.0, TWO)) == ([first, second], 0, True)


def test_it_refuses_while_the_upstream_asked_to_wait_and_while_all_probes_are_out() -> None:
    probes = Probes()
    assert probes.refusal(0.0, TWO) is None
    probes.hold(5.5)
    held = probes.refusal(1.0, TWO)
    assert held is not None
    assert (held.retry_after, probes.refusal(5.5, TWO)) == (5, None)
    for _ in range(2):
        probes.take(1, 6.0)
    assert probes.refusal(6.0, TWO) is UNDER_WAY
    assert (UNDER_WAY.retry_after, probes.refusal(16.0, TWO)) == (1, None)


def test_a_hold_only_grows() -> None:
    probes = Probes()
    for until, held in ((5.0, 5.0), (3.0, 5.0), (9.0, 9.0)):
        probes.hold(until)
        assert probes.held_until == held


def test_a_new_half_open_period_starts_empty() -> None:
    probes = Probes()
    old = probes.take(1, 0.0)
    probes.successes = 3
    probes.hold(5.0)
    probes.clear()
    assert (probes.successes, probes.held_until, probes.in_flight(0.0, 10.0)) == (0, 0.0, 0)
    assert not probes.give_back(old)


def test_a_probe_that_steps_aside_leaves_its_place_and_still_has_its_say() -> None:
    probes, one = Probes(), BreakerSettings(half_open_probes=1, probe_timeout=10.0)
    permit = probes.take(1, 0.0)
    probes.step_aside(permit)
    assert probes.free(0.0, one)
    assert probes.in_flight(0.0, 10.0) == 0
    assert [probes.give_back(permit) for _ in range(2)] == [True, False]


def test_who_stands_aside_is_reclaimed_and_forgotten_like_the_others() -> None:
    probes = Probes()
    overdue, dropped = probes.take(1, 0.0), probes.take(1, 5.0)
    for permit in (overdue, dropped):
        probes.step_aside(permit)
    assert (probes.oldest(), len(probes)) == (overdue, 2)
    assert probes.give_back(overdue)
    assert probes.oldest() is dropped
    probes.clear()
    assert not probes.give_back(dropped)


def test_only_so_many_step_aside_and_only_who_is_in_flight() -> None:
    probes, one = Probes(), BreakerSettings(half_open_probes=1, probe_timeout=10.0)
    for number in range(MAX_ASIDE):
        probes.step_aside(probes.take(number, 0.0))
    last = probes.take(1, 0.0)
    probes.step_aside(last)
    assert not probes.free(0.0, one)
    assert probes.give_back(last)
    probes.step_aside(last)
    assert not probes.give_back(last)
