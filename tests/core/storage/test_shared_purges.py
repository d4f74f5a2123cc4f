from __future__ import annotations

import pytest

from sidecar.core.storage.purging import PurgeRule
from sidecar.core.storage.shared_purges import (
    EVERYTHING,
    FLEETS_STORE,
    PURGES_KEPT,
    FleetPurges,
    read_rule,
    write_rule,
)

RULES = [
    PurgeRule(route="a"),
    PurgeRule(url=b"http://u/x\n\0\xff"),
    PurgeRule(prefix=b"http://u/"),
    PurgeRule(tag=b"t"),
    PurgeRule("ä", b"u", b"p", b"t"),
    EVERYTHING,
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_that_is_told_is_understood(rule: PurgeRule) -> None:
    assert read_rule(write_rule(rule)) == rule


@pytest.mark.parametrize("octets", [b"garbage", FLEETS_STORE, write_rule(RULES[0])[:-1], b"n", b"t\0\0\0\0"])
def test_what_is_not_understood_covers_everything(octets: bytes) -> None:
    assert read_rule(octets) == EVERYTHING


def test_what_came_after_an_answer_covers_it_and_what_came_before_does_not() -> None:
    purges = FleetPurges()
    assert not purges.covered(0, "a", b"u", ())
    assert purges.learn(10, write_rule(PurgeRule(tag=b"t")))
    assert purges.covered(9, "a", b"u", (b"t",))
    assert not purges.covered(10, "a", b"u", (b"t",))
    assert not purges.covered(9, "a", b"u", (b"s",))
    assert purges.newest == 10


def test_of_the_same_purge_the_latest_counts() -> None:
    purges = FleetPurges()
    rule = write_rule(PurgeRule(route="a"))
    assert purges.learn(10, rule)
    assert not purges.learn(10, rule)
    assert not purges.learn(9, rule)
    assert purges.learn(11, rule)
    assert purges.covered(10, "a", b"u", ())
    assert list(purges.all()) == [(11, rule)]


def test_a_purge_of_the_fleets_store_covers_everything_in_it() -> None:
    purges = FleetPurges()
    purges.learn(10, FLEETS_STORE)
    assert purges.covered(9, "a", b"u", ())


def test_what_is_forgotten_covers_everything_up_to_it() -> None:
    purges = FleetPurges()
    for number in range(1, PURGES_KEPT + 101):
        purges.learn(number, write_rule(PurgeRule(tag=b"%d" % number)))
    assert len(list(purges.all())) <= PURGES_KEPT + 1
    assert purges.covered(50, "a", b"u", ())
    assert not purges.covered(150, "a", b"u", ())
    assert purges.covered(150, "a", b"u", (b"160",))
