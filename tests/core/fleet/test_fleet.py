"""A sidecar's side of the fleet: what it says when, and what it makes of what it hears."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.circuit.gate import Lease
from sidecar.core.config import BreakerMode
from sidecar.core.fleet.fleet import HEARTBEAT, MEMBER_TTL, Fleet
from sidecar.core.fleet.messages import NO_VERSION, Heard, Member, News, Pooled, Record, Version, Word
from sidecar.core.fleet_settings import FleetSettings, FleetTrip
from tests.support.circuits import SETTINGS, Bench

ME = Member("a", "1", 0.0)
FIRST = Version(100, 1)
OPENED = Record("catalog", 7, State.OPEN, 5.0, 0, "b", "because")


class Member1(Bench):
    """A sidecar with one circuit, in a fleet that has told it everything."""

    def __init__(self, *, settings: FleetSettings | None = None, joined: bool = True, **changes: object) -> None:
        super().__init__(0.0, **changes)
        self.ended: list[str] = []
        self.fleet = Fleet(settings or FleetSettings(), ME, lambda name, _: self.ended.append(name))
        self.fleet.follow([self.circuit], 0.0)
        if joined:
            self.hears(0.0)

    def hears(self, now: float, version: Version = FIRST, members: int = 3, **more: object) -> None:
        push = self.fleet.push(now)
        if push is not None:
            self.fleet.said(push, now)
        self.fleet.take(News(version, 1000.0 + now, members, **more), now)  # type: ignore[arg-type]

    def trips(self, now: float) -> None:
        before = len(self.events)
        self.trip(now)
        for event in self.events[before:]:
            self.fleet.moved(event)


def test_it_asks_for_everything_at_first_and_says_that_it_lives() -> None:
    push = Member1(joined=False).fleet.push(0.0)
    assert push is not None
    assert (push.known, push.heartbeat, push.named) == (NO_VERSION, True, ())


def test_a_quiet_time_has_nothing_to_say_but_a_heartbeat() -> None:
    member = Member1()
    assert member.fleet.push(HEARTBEAT - 0.1) is None
    push = member.fleet.push(HEARTBEAT)
    assert push is not None
    assert (push.known, push.heartbeat, push.members, push.quorum) == (FIRST, True, 3, 2)


def test_a_trip_is_said_and_renewed_until_it_was_heard() -> None:
    member = Member1()
    member.trips(0.5)
    first, again = member.fleet.push(0.5), member.fleet.push(0.6)
    assert first is not None
    assert again is not None
    assert first.named[0].vote is not None
    assert again.named[0].vote is not None
    member.fleet.said(again, 0.6)
    assert member.fleet.push(0.7) is None


@pytest.mark.parametrize(
    ("settings", "quorum"),
    [(FleetSettings(), 2), (FleetSettings(quorum=5), 5), (FleetSettings(trip=FleetTrip.ANY, quorum=5), 1)],
)
def test_the_quorum_is_as_configured(settings: FleetSettings, quorum: int) -> None:
    assert Member1(settings=settings).fleet.question(0.0).quorum == quorum


def test_local_trips_share_nothing_but_words_and_the_view() -> None:
    member = Member1(settings=FleetSettings(trip=FleetTrip.LOCAL))
    member.trips(0.0)
    assert member.circuit.gate is None
    push = member.fleet.push(0.1)
    assert push is not None
    assert push.named[0].vote is None
    member.fleet.hear(Heard(word=Word("catalog", 9, OverrideMode.FORCED_CLOSED, "drill", "ann", 60.0)), 1.0)
    assert member.circuit.snapshot(1.0).effective_state is OverrideMode.FORCED_CLOSED


@pytest.mark.parametrize("mode", [BreakerMode.OBSERVE, BreakerMode.OFF])
def test_a_circuit_that_refuses_nobody_is_not_shared(mode: BreakerMode) -> None:
    assert Member1(mode=mode).circuit.gate is None


def test_it_takes_up_what_is_told_to_all_and_need_not_ask_for_it_then() -> None:
    member = Member1()
    second = Version(100, 2)
    member.fleet.hear(Heard(second, FIRST, OPENED), 1.0)
    assert member.state == "open"
    assert member.fleet.known == second
    member.fleet.hear(Heard(Version(100, 9), Version(100, 8), replace(OPENED, round=9, state=State.CLOSED)), 1.0)
    assert member.state == "closed"
    assert member.fleet.known == second, "something between was missed"


def test_what_nobody_here_has_is_passed_over() -> None:
    member = Member1()
    member.fleet.hear(Heard(Version(100, 2), FIRST, replace(OPENED, circuit="gone"), freed="gone"), 1.0)
    member.hears(1.0, Version(100, 3), words=(Word("gone", 1, None),), pooled=(("gone", Pooled(1)),))
    assert member.state == "closed"


def test_a_lease_that_is_free_again_may_be_asked_for_at_once() -> None:
    member = Member1()
    gate = member.circuit.gate
    assert gate is not None
    member.fleet.hear(Heard(record=OPENED), 0.0)
    gate.hold_until = 100.0
    assert not member.circuit.wants_lease(6.0, safe=True)
    member.fleet.hear(Heard(freed="catalog"), 6.0)
    assert member.circuit.wants_lease(6.0, safe=True)


@pytest.mark.parametrize(
    "version", [Version(200, 1), Version(100, 0)], ids=["another data set", "an older state of the same"]
)
def test_what_stands_is_said_again_when_redis_has_lost_it(version: Version) -> None:
    member = Member1()
    member.trips(0.5)
    member.hears(0.5)
    member.fleet.hear(Heard(word=Word("catalog", 9, OverrideMode.OBSERVE, "", "ann", 60.0)), 0.6)
    assert member.fleet.push(0.7) is None
    member.hears(0.7, version)
    push = member.fleet.push(0.8)
    assert push is not None
    assert push.heartbeat
    assert push.named[0].vote is not None
    (word,) = member.fleet.words.untold(0.8)
    assert (word.stamp, word.actor) == (9, "ann")
    assert word.left == pytest.approx(59.8)


def test_a_fleet_that_returns_one_by_one_is_not_taken_for_a_small_one() -> None:
    member = Member1()
    member.hears(1.0, Version(200, 1), members=1)
    assert member.fleet.question(1.1).members == 3
    assert member.fleet.members == 1
    after = MEMBER_TTL + HEARTBEAT
    member.hears(after, Version(200, 2), members=1)
    assert member.fleet.question(after).members == 1


def test_a_larger_fleet_counts_at_once() -> None:
    member = Member1()
    member.hears(1.0, members=9)
    assert member.fleet.question(1.0).members == 9


def test_the_pooled_numbers_are_in_the_view() -> None:
    member = Member1()
    member.hears(1.0, pooled=(("catalog", Pooled(40, 10, 0, 1)),))
    view = member.fleet.view(1.0)
    assert (view.members, view.fresh) == ((ME,), False)
    assert view.circuits["catalog"].pooled == Pooled(40, 10, 0, 1)


def test_a_reload_keeps_what_is_known_of_circuits_that_go_on() -> None:
    member = Member1()
    member.fleet.hear(Heard(record=OPENED), 1.0)
    member.fleet.follow([member.circuit], 2.0)
    assert member.fleet.shares["catalog"].round == OPENED.round
    assert member.fleet.known == FIRST
    fresh = Circuit("orders", SETTINGS, member.circuit._hooks, 2.0)
    member.fleet.follow([fresh], 2.0)
    assert set(member.fleet.shares) == {"orders"}
    assert member.fleet.push(2.0) is not None, "what the fleet knows of it is asked for"


def test_an_operators_reset_closes_the_fleets_circuit_only_if_that_is_open() -> None:
    member = Member1()
    member.trips(0.0)
    member.circuit.reset(1.0)
    assert not member.fleet.closed_for_all(member.events[-1])
    member.fleet.hear(Heard(record=OPENED), 1.0)
    member.circuit.reset(2.0)
    assert member.fleet.closed_for_all(member.events[-1])


def test_how_a_probe_ended_is_told_with_the_name_of_its_circuit() -> None:
    member = Member1()
    member.fleet.hear(Heard(record=OPENED), 0.0)
    gate = member.circuit.gate
    assert gate is not None
    gate.lend(Lease("a|1", 8))
    permit = member.admit(6.0)
    member.circuit.step_aside(permit)
    assert member.ended == ["catalog"]


def test_a_word_that_cannot_be_told_is_dated_by_redis_time_once_that_was_heard() -> None:
    assert Member1(joined=False).fleet.stamp(5.0) == 0
    assert Member1().fleet.stamp(5.0) == 1_005_000_000
