from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.core.config import Abort, Delay, Fault, FaultMatch, Reset, SlowBody
from sidecar.core.fault import FaultChange, RouteFault, Strike, in_words, strike
from tests.support.routes import request

if TYPE_CHECKING:
    from collections.abc import Callable

FAULT = Fault(10.0, abort=Abort(503))
ALL = Fault(10.0, Abort(503, 0.5), Delay(2.0, 0.1), Reset(0.01), SlowBody(1024, 0.2))


def drawing(*numbers: float) -> Callable[[], float]:
    return iter(numbers).__next__


@pytest.mark.parametrize(
    ("numbers", "struck"),
    [
        ((0.9, 0.9, 0.9, 0.9), None),
        ((0.0, 0.9, 0.9, 0.9), Strike(2.0, 0, reset=False, rate=0)),
        ((0.1, 0.49, 0.9, 0.9), Strike(0.0, 503, reset=False, rate=0)),
        ((0.9, 0.5, 0.0, 0.19), Strike(0.0, 0, reset=True, rate=1024)),
        ((0.0, 0.0, 0.0, 0.0), Strike(2.0, 503, reset=True, rate=1024)),
    ],
)
def test_each_kind_draws_for_itself_and_a_draw_on_the_share_misses(
    numbers: tuple[float, ...], struck: Strike | None
) -> None:
    assert strike(ALL, request("/a"), drawing(*numbers)) == struck


def test_what_is_not_there_draws_nothing() -> None:
    assert strike(FAULT, request("/a"), drawing(0.0)) == Strike(0.0, 503, reset=False, rate=0)


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        (FaultMatch(), True),
        (FaultMatch(frozenset({"GET"})), True),
        (FaultMatch(frozenset({"HEAD"})), False),
        (FaultMatch(headers=(("x-a", "1"),)), True),
        (FaultMatch(headers=(("x-a", "2"),)), False),
        (FaultMatch(headers=(("x-a", None),)), True),
        (FaultMatch(headers=(("x-a", None), ("x-b", None))), False),
    ],
)
def test_all_that_is_given_must_match(match: FaultMatch, hit: object) -> None:
    fault = Fault(1.0, abort=Abort(), match=match)
    found = strike(fault, request("/a", "GET", "h", (b"X-A", b"1")), lambda: 0.0)
    assert (found is not None) is hit


def test_it_says_what_it_does() -> None:
    assert in_words(ALL) == "abort 503 (50%), delay 2s (10%), reset (1%), slow_body 1024 bytes/s (20%)"


class Desk:
    """A route's fault, and what was told of it."""

    def __init__(self) -> None:
        self.changes: list[FaultChange] = []
        self.looks: list[bool] = []
        self.fault = RouteFault("shop", self.changes.append)
        self.fault.watcher = lambda: self.looks.append(self.fault.current is not None)

    @property
    def steps(self) -> list[tuple[str, str, float]]:
        return [(change.action, change.actor, change.at) for change in self.changes]


def test_a_fault_ends_by_itself_once() -> None:
    desk = Desk()
    desk.fault.begin(FAULT, "ann", "drill", 100.0)
    assert desk.fault.live(109.9) is not None
    assert desk.fault.live(110.0) is None
    assert desk.fault.live(111.0) is None
    assert desk.steps == [("set", "ann", 100.0), ("expired", "ann", 110.0)]
    assert desk.looks == [True, False]
    assert desk.changes[1].sentence == "fault on route shop: abort 503 (100%); expired"


def test_the_last_word_wins_and_an_end_says_who() -> None:
    desk = Desk()
    desk.fault.begin(FAULT, "ann", "", 100.0)
    other = desk.fault.begin(ALL, "bob", "more", 105.0)
    assert desk.fault.live(114.9) is other
    assert desk.fault.end("cid", "enough", 114.9)
    assert not desk.fault.end("cid", "again", 114.9)
    assert desk.steps == [("set", "ann", 100.0), ("set", "bob", 105.0), ("ended", "cid", 114.9)]
    assert desk.changes[2].sentence.endswith("; ended by cid: enough")


def test_what_the_file_says_is_taken_up_when_it_changes_only() -> None:
    desk = Desk()
    desk.fault.configure(FAULT, 0.0)
    desk.fault.configure(FAULT, 5.0)
    assert desk.fault.live(9.9) is not None
    desk.fault.end("ann", "", 9.9)
    desk.fault.configure(FAULT, 11.0)
    assert desk.fault.live(11.0) is None
    desk.fault.configure(ALL, 12.0)
    desk.fault.configure(None, 13.0)
    assert desk.fault.live(13.0) is None
    assert [step for step, _, _ in desk.steps] == ["set", "ended", "set", "ended"]


def test_what_somebody_injected_is_not_taken_away_with_the_files_own() -> None:
    desk = Desk()
    desk.fault.configure(FAULT, 0.0)
    injected = desk.fault.begin(ALL, "ann", "", 1.0)
    desk.fault.configure(None, 2.0)
    assert desk.fault.live(2.0) is injected
