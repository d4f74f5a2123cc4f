from typing import TYPE_CHECKING

import pytest

from sidecar.core.circuit.explanation import Cause, OverrideMode, Standing, State, Transition, WindowView
from sidecar.core.events import EventRing, record_transition
from sidecar.core.report import Moment, sentence

if TYPE_CHECKING:
    from collections.abc import Callable


def filled(count: int, *, size: int = 3, first_id: int = 1) -> EventRing:
    ring = EventRing(size, first_id=first_id)
    for number in range(count):
        ring.append(float(number), "transition", f"event {number}")
    return ring


def test_a_full_ring_forgets_the_oldest_event() -> None:
    assert [event.message for event in filled(5).after(0)] == ["event 2", "event 3", "event 4"]


def test_ids_grow_by_one_and_are_never_given_twice() -> None:
    ring = filled(5)
    assert [event.id for event in ring.after(0)] == [3, 4, 5]
    assert ring.append(9.0, "reset", "again").id == 6
    assert ring.last_id == 6


@pytest.mark.parametrize(
    ("last_id", "expected"),
    [(0, [3, 4, 5]), (1, [3, 4, 5]), (3, [4, 5]), (4, [5]), (5, []), (6, [3, 4, 5]), (99, [3, 4, 5]), (-7, [3, 4, 5])],
    ids=["start", "forgotten", "in the ring", "last but one", "up to date", "not yet given", "another process", "odd"],
)
def test_a_reader_resumes_after_the_last_event_it_saw(last_id: int, expected: list[int]) -> None:
    assert [event.id for event in filled(5).after(last_id)] == expected


def test_a_restarted_ring_goes_on_above_the_ids_of_the_one_before() -> None:
    assert [event.id for event in filled(2, first_id=1001).after(7)] == [1001, 1002]


def test_an_empty_ring_has_nothing_to_tell() -> None:
    ring = EventRing()
    assert (ring.after(0), ring.last_id, len(ring)) == ([], 0, 0)


def test_listeners_hear_of_each_event_until_they_stop_listening() -> None:
    ring = EventRing()
    heard: list[int] = []
    stop = ring.listen(lambda: heard.append(ring.last_id))
    ring.append(0.0, "reset", "one")
    ring.append(0.0, "reset", "two")
    stop()
    ring.append(0.0, "reset", "three")
    assert heard == [1, 2]


def test_a_listener_may_stop_listening_while_it_is_called() -> None:
    ring = EventRing()
    heard: list[int] = []
    stops: list[Callable[[], None]] = []

    def stop_at_once() -> None:
        stops[0]()

    stops.append(ring.listen(stop_at_once))
    ring.listen(lambda: heard.append(ring.last_id))
    ring.append(0.0, "reset", "one")
    assert heard == [1]


MOMENT = Moment(monotonic=1000.0, wall=1_764_000_000.0)


def transition(cause: Cause, target: Standing = State.OPEN) -> Transition:
    return Transition("catalog", State.CLOSED, target, cause, 990.0, "5 failures", WindowView(5, 5), next_probe_in=15.0)


@pytest.mark.parametrize(
    ("cause", "target", "kind"),
    [
        (Cause.FAILURE_THRESHOLD, State.OPEN, "transition"),
        (Cause.RESET, State.CLOSED, "transition"),
        (Cause.OVERRIDE_SET, OverrideMode.FORCED_OPEN, "override"),
        (Cause.OVERRIDE_REMOVED, State.CLOSED, "override"),
        (Cause.OVERRIDE_EXPIRED, State.CLOSED, "override"),
    ],
    ids=lambda it: getattr(it, "value", it),
)
def test_what_an_operator_forces_is_an_event_of_its_own_kind(cause: Cause, target: Standing, kind: str) -> None:
    assert record_transition(EventRing(), transition(cause, target), MOMENT).kind == kind


def test_a_transition_becomes_an_event_in_the_words_of_the_log() -> None:
    ring = EventRing()
    event = record_transition(ring, transition(Cause.FAILURE_THRESHOLD), MOMENT)
    assert ring.after(0) == [event]
    assert (event.at, event.circuit) == (MOMENT.wall - 10.0, "catalog")
    assert event.message == sentence(transition(Cause.FAILURE_THRESHOLD))
    assert event.details["next_probe_at"] == "2025-11-24T16:00:05.000Z"
