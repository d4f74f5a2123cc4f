from __future__ import annotations

from sidecar.core.circuit.in_flight import InFlight
from sidecar.core.circuit.permit import Permit, Role
from tests.support.circuits import sample


def permits(*starts: float) -> tuple[InFlight, list[Permit]]:
    in_flight = InFlight()
    made = [Permit(Role.NORMAL, 1, 0.0) for _ in starts]
    for permit, started in zip(made, starts, strict=True):
        in_flight.add(permit, started)
    return in_flight, made


def test_who_waits_longest_comes_first() -> None:
    in_flight, (first, second, third) = permits(0.0, 0.5, 5.0)
    order = []
    while (longest := in_flight.first()) is not None:
        order.append((longest[0], in_flight.longest(9.0)))
        in_flight.discard(longest[0])
    assert order == [(first, 0.0), (second, 0.5), (third, 5.0)]


def test_where_nobody_waits_the_wait_begins_now() -> None:
    in_flight, _ = permits()
    assert (in_flight.longest(9.0), len(in_flight)) == (9.0, 0)


def test_who_begins_anew_waits_since_then() -> None:
    in_flight, (first, second) = permits(0.0, 1.0)
    in_flight.add(first, 2.0)
    assert in_flight.first() == (second, 1.0, None)
    assert len(in_flight) == 2


def test_who_is_not_there_can_be_discarded() -> None:
    in_flight, (only,) = permits(0.0)
    for _ in range(2):
        in_flight.discard(only)
    assert in_flight.first() is None


def test_a_sample_is_kept_with_who_waits() -> None:
    in_flight, _ = permits()
    permit = Permit(Role.NORMAL, 1, 0.0)
    in_flight.add(permit, 1.0, lambda: sample(7.0))
    first = in_flight.first()
    assert first is not None
    assert first[2] is not None
    assert first[2]() == sample(7.0)


def test_after_clearing_nobody_waits() -> None:
    in_flight, _ = permits(0.0, 1.0)
    in_flight.clear()
    assert (in_flight.first(), len(in_flight)) == (None, 0)
