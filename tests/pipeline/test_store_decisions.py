"""Why answers were stored or not: what is noted, and in how much memory."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sidecar.pipeline.errors import ConnectionLost
from sidecar.pipeline.store_decisions import LONGEST_KEY, PLACES, STORED, StoreDecision, StoreDecisions
from tests.support.cache_world import START, Reply, World

FRESH = {"Cache-Control": "max-age=60", "ETag": '"v"'}
KEY = b"catalog http://catalog.svc:8080/a"


def decision(key: bytes, route: str = "r", why: str = STORED, at: float = 0.0) -> StoreDecision:
    return StoreDecision(key, route, 200, why, at)


def test_the_last_word_on_a_key_counts() -> None:
    notes = StoreDecisions()
    assert notes.of(b"a") is None
    notes.note(*decision(b"a", why="private"))
    assert notes.of(b"a") == decision(b"a", why="private")
    assert not decision(b"a", why="private").stored
    notes.note(*decision(b"a"))
    assert notes.of(b"a") == decision(b"a")
    assert decision(b"a").stored
    assert notes.counts == {("r", "private"): 1, ("r", STORED): 1}


def test_the_latest_of_a_route_is_known() -> None:
    notes = StoreDecisions()
    assert notes.last("r") is None
    for at, key in ((2.0, b"b"), (3.0, b"c"), (1.0, b"a")):
        notes.note(*decision(key, at=at))
    notes.note(*decision(b"x", route="other", at=9.0))
    assert notes.last("r") == decision(b"c", at=3.0)


def test_however_many_keys_there_are_the_places_are_as_many() -> None:
    notes = StoreDecisions()
    keys = [b"%d" % number for number in range(10 * PLACES)]
    for key in keys:
        notes.note(*decision(key))
    assert PLACES // 2 < sum(notes.of(key) is not None for key in keys) <= PLACES
    assert notes.counts == {("r", STORED): len(keys)}


def test_an_endless_key_is_counted_and_not_kept() -> None:
    notes = StoreDecisions()
    notes.note(*decision(b"x" * (LONGEST_KEY + 1)))
    assert notes.of(b"x" * (LONGEST_KEY + 1)) is None
    assert notes.counts == {("r", STORED): 1}


REASONS: dict[str, tuple[Reply, str]] = {
    "whole": (Reply(fields=FRESH), STORED),
    "in pieces": (Reply(fields=FRESH, pieces=[b"a", b"b"]), STORED),
    "no-store": (Reply(fields={"Cache-Control": "no-store"}), "no-store"),
    "nothing said": (Reply(), "neither freshness nor validator"),
    "a cookie": (Reply(fields={**FRESH, "Set-Cookie": "a=b"}), "Set-Cookie"),
    "too large": (Reply(fields=FRESH, body=b"x" * 101), "larger than max_entry_size"),
    "too large, as it turns out": (Reply(fields=FRESH, pieces=[b"x" * 60] * 2), "larger than max_entry_size"),
    "cut": (Reply(fields=FRESH, pieces=[b"x", ConnectionLost("cut")]), "cut short"),
}


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize(("reply", "why"), REASONS.values(), ids=REASONS.keys())
async def test_what_became_of_an_answer_is_noted(reply: Reply, why: str, *, collapse: bool) -> None:
    pieces = None if reply.pieces is None else list(reply.pieces)
    world = World(Reply(fields=reply.fields, body=reply.body, pieces=pieces), max_entry_size=100, collapse=collapse)
    try:
        await world.ask()
    except ConnectionLost:
        assert why == "cut short"
    await world.settle()
    notes = world.store.stats.decisions
    assert notes.of(KEY) == notes.last("catalog") == StoreDecision(KEY, "catalog", 200, why, START)
    assert notes.counts == Counter({("catalog", why): 1})


@pytest.mark.parametrize("collapse", [True, False])
async def test_an_answer_that_nobody_read_is_noted_as_such(*, collapse: bool) -> None:
    world = World(Reply(fields=FRESH, pieces=[b"con", asyncio.Event(), b"tent"]), collapse=collapse)
    response = await world.send(world.request())
    assert not isinstance(response.body, bytes)
    await response.body.read()
    response.body.close()
    await world.settle()
    noted = world.store.stats.decisions.of(KEY)
    assert noted is not None
    assert noted.why == "given up by its reader"


async def test_an_answer_that_was_purged_on_its_way_is_noted_as_such() -> None:
    def purging(_: object) -> Reply:
        world.store.purge(route="catalog")
        return Reply(fields=FRESH)

    world = World(purging)
    await world.ask()
    noted = world.store.stats.decisions.of(KEY)
    assert noted is not None
    assert noted.why == "purged meanwhile, or no room"


async def test_a_confirmed_answer_is_noted_and_a_hit_is_not() -> None:
    world = World(Reply(fields=FRESH), Reply(304, FRESH), Reply(304, {"Cache-Control": "no-store", "ETag": '"v"'}))
    await world.ask()
    await world.ask()
    world.clock.now += 100
    await world.ask()
    notes = world.store.stats.decisions
    assert notes.of(KEY) == StoreDecision(KEY, "catalog", 304, STORED, START + 100)
    world.clock.now += 100
    await world.ask()
    assert notes.of(KEY) == StoreDecision(KEY, "catalog", 304, "no-store", START + 200)
    assert notes.counts == {("catalog", STORED): 2, ("catalog", "no-store"): 1}
