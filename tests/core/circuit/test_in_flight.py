from __future__ import annotations

from sidecar.core.circuit.in_flight import InFlight
from sidecar.core.circuit.permit import Permit, Role

SLOW_AFTER = 2.0


def permits(*starts: float) -> tuple[InFlight, list[Permit]]:
    in_flight = InFlight()
    made = [Permit(Role.NORMAL, 1, started) for started in starts]
    in_flight.permits.update(dict.fromkeys(made))
    return in_flight, made


def test_the_overdue_come_oldest_first_and_each_once() -> None:
    in_flight, (first, second, third) = permits(0.0, 0.5, 5.0)
    assert in_flight.pop_overdue(3.0, SLOW_AFTER) == (first, None)
    assert in_flight.pop_overdue(3.0, SLOW_AFTER) == (second, None)
    assert in_flight.pop_overdue(3.0, SLOW_AFTER) is None
    assert list(in_flight.permits) == [third]


def test_as_long_as_slow_after_is_not_yet_overdue() -> None:
    in_flight, (only,) = permits(1.0)
    assert in_flight.pop_overdue(3.0, SLOW_AFTER) is None
    assert in_flight.pop_overdue(3.001, SLOW_AFTER) == (only, None)


def test_nobody_is_overdue_before_the_next_check() -> None:
    in_flight, _ = permits(1.0)
    in_flight.pop_overdue(2.0, SLOW_AFTER)
    assert in_flight.check_at == 3.0
    empty, _ = permits()
    empty.pop_overdue(2.0, SLOW_AFTER)
    assert empty.check_at == 4.0
