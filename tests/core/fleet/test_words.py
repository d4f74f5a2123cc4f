"""Operators' words to the whole fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.fleet.messages import Word
from sidecar.core.fleet.words import Words, obey, word_of
from tests.support.circuits import Bench

FORCED = Word("catalog", 5, OverrideMode.FORCED_OPEN, "drill", "ann", 60.0)
REMOVED = Word("catalog", 6, None)


def test_the_last_word_holds_whenever_it_arrives() -> None:
    words = Words()
    assert words.take(REMOVED, 0.0)
    assert not words.take(FORCED, 1.0)
    assert words.standing("catalog", 1.0) is None
    assert words.take(replace(FORCED, stamp=7), 2.0)
    assert words.standing("catalog", 12.0) == replace(FORCED, stamp=7, left=50.0)
    assert words.standing("catalog", 62.0) is None
    assert words.standing("orders", 0.0) is None


def test_what_could_not_be_told_is_told_with_what_is_left_of_it() -> None:
    words = Words()
    words.keep(FORCED, 0.0)
    assert list(words.untold(10.0)) == [replace(FORCED, left=50.0)]
    assert list(words.untold(60.0)) == []
    assert list(words.untold(10.0)) == [], "one that has ended is told no more"


def test_a_word_that_was_told_is_told_no_more_until_redis_may_have_forgotten_it() -> None:
    words = Words()
    words.keep(replace(FORCED, left=None), 0.0)
    words.take(replace(FORCED, left=None), 1.0)
    assert list(words.untold(1.0)) == []
    words.tell_again()
    assert list(words.untold(1.0)) == [replace(FORCED, left=None)]


def test_a_circuit_obeys_once_and_ends_by_itself() -> None:
    bench = Bench()
    obey(FORCED, bench.circuit, 0.0)
    obey(FORCED, bench.circuit, 0.1)
    assert bench.steps == [("closed", "forced_open", "override_set")]
    override = bench.circuit.override_in_force(0.0)
    assert override is not None
    assert (override.actor, override.fleet, override.stamp) == ("ann", True, 5)
    bench.circuit.tick(60.0)
    assert bench.steps[-1] == ("forced_open", "closed", "override_expired")


@pytest.mark.parametrize(
    "other",
    [
        replace(FORCED, mode=OverrideMode.OBSERVE),
        replace(FORCED, actor="bob"),
        replace(FORCED, left=90.0),
        replace(FORCED, left=None),
    ],
)
def test_another_word_replaces_it(other: Word) -> None:
    bench = Bench()
    obey(FORCED, bench.circuit, 0.0)
    obey(other, bench.circuit, 0.0)
    assert len(bench.events) == 2


def test_a_removal_is_about_the_fleets_override_and_not_one_for_this_sidecar_alone() -> None:
    bench = Bench()
    obey(REMOVED, bench.circuit, 0.0)
    assert bench.events == []
    bench.circuit.override(OverrideMode.OBSERVE, "", "bob", None, 0.0)
    obey(REMOVED, bench.circuit, 1.0)
    assert bench.circuit.override_in_force(1.0) is not None
    obey(FORCED, bench.circuit, 2.0)
    obey(REMOVED, bench.circuit, 3.0)
    assert bench.circuit.override_in_force(3.0) is None


def test_a_word_whose_time_is_over_forces_nothing() -> None:
    bench = Bench()
    obey(replace(FORCED, left=0.0), bench.circuit, 0.0)
    assert bench.events == []


@pytest.mark.parametrize("ttl", [60.0, None])
def test_an_override_of_the_fleet_is_the_word_that_made_it(ttl: float | None) -> None:
    bench = Bench()
    word = replace(FORCED, left=ttl)
    obey(word, bench.circuit, 5.0)
    override = bench.circuit.override_in_force(5.0)
    assert override is not None
    assert word_of(override, "catalog", 5.0) == word
