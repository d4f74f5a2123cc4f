from __future__ import annotations

from dataclasses import replace

from sidecar.core.circuit.half_open import Probes
from sidecar.core.circuit.permit import Permit, Role
from sidecar.core.circuit.waits import InFlight, Waits
from sidecar.core.config import BreakerSettings
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
        order.append(longest[:2])
        in_flight.discard(longest[0])
    assert order == [(first, 0.0), (second, 0.5), (third, 5.0)]


def test_who_begins_anew_waits_since_then() -> None:
    in_flight, (first, second) = permits(0.0, 1.0)
    in_flight.add(first, 2.0)
    assert in_flight.first() == (second, 1.0, None)
    assert len(in_flight) == 2


def test_who_is_not_there_can_be_discarded() -> None:
    in_flight, (only,) = permits(0.0)
    assert [in_flight.discard(only) for _ in range(2)] == [(only, 0.0, None), None]
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


# The three queues


SLOW = BreakerSettings(slow_rate=0.5, slow_after=2.0, probe_timeout=5.0)


def permit(role: Role = Role.NORMAL, started: float = 0.0) -> Permit:
    return Permit(role, 1, started)


def due(waits: Waits, now: float) -> list[Permit]:
    """Everything that is due, taken out as it comes."""
    found = []
    while (one := waits.due(now)) is not None:
        found.append(one)
        waits.sent.discard(one)
        waits.flowing.discard(one)
        waits.probes.give_back(one)
    return found


def test_each_is_due_by_its_own_limit() -> None:
    waits = Waits(SLOW, Probes())
    sent, flowing, probe = permit(), permit(), waits.probes.take(1, 0.5)
    waits.sent.add(sent, 1.0)
    waits.flowing.add(flowing, 0.75)
    assert [due(waits, now) for now in (3.0, 3.1, 5.4, 5.5, 5.75, 99.0)] == [[], [sent], [], [probe], [flowing], []]


def test_what_is_due_at_once_comes_slow_first_then_bodies_then_probes() -> None:
    waits = Waits(SLOW, Probes())
    probe, flowing, sent = waits.probes.take(1, 0.0), permit(), permit()
    waits.flowing.add(flowing, 1.0)
    waits.sent.add(sent, 2.0)
    assert due(waits, 99.0) == [sent, flowing, probe]
    assert not waits


def test_nothing_is_due_before_the_next_look_whoever_comes_meanwhile() -> None:
    waits = Waits(SLOW, Probes())
    assert waits.due(10.0) is None
    assert waits.look_at == 12.0
    waits.sent.add(permit(), 10.0)
    waits.flowing.add(permit(), 10.0)
    waits.probes.take(1, 10.0)
    assert waits.due(12.0) is None
    assert due(waits, 12.1) != []


def test_the_next_look_is_when_the_first_of_those_who_wait_may_be_due() -> None:
    waits = Waits(SLOW, Probes())
    waits.flowing.add(permit(), 6.0)
    assert waits.due(10.0) is None
    assert waits.look_at == 11.0


def test_other_limits_are_looked_at_at_once_and_apply_to_who_waits() -> None:
    waits = Waits(SLOW, Probes())
    flowing = permit()
    waits.flowing.add(flowing, 0.0)
    assert waits.due(1.0) is None
    waits.limit(replace(SLOW, probe_timeout=1.0))
    assert waits.look_at < 1.0
    assert due(waits, 1.0) == [flowing]


def test_where_slow_requests_do_not_count_none_waits_to_be_slow() -> None:
    waits = Waits(SLOW, Probes())
    waits.sent.add(permit(), 0.0)
    waits.limit(replace(SLOW, slow_rate=None))
    assert due(waits, 99.0) == []
