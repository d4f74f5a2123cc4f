"""The fleet's state in a real Redis, and in Valkey: one operation after the other, by the server's own time."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.redis.fleet_store import RedisFleetStore
from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.fleet.messages import (
    NO_VERSION,
    Heard,
    LeaseWish,
    Member,
    Named,
    News,
    Pooled,
    Push,
    Record,
    Verdict,
    Vote,
    Word,
)
from sidecar.core.fleet_settings import RedisKind, RedisSettings, RedisUrl
from sidecar.pipeline.fleet.ports import StoreUnavailable
from sidecar.pipeline.stats import FleetStats
from tests.support.redis_server import RedisServer, redis_server
from tests.support.wire import comes_true, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAME = "catalog"
KEY = "{shop}:"


class Clock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class Pod:
    """One sidecar's view of the store."""

    def __init__(self, server: RedisServer, name: str = "a", namespace: str = "shop") -> None:
        self.name = name
        self.stats = FleetStats()
        settings = RedisSettings(RedisUrl(RedisKind.SINGLE, (("127.0.0.1", server.port),)), namespace, read_timeout=0.1)
        self.store = RedisFleetStore(settings, Member(name, "1.2", 0.0), self.stats, Clock())
        self.known = NO_VERSION

    async def push(self, *named: Named, members: int = 1, quorum: int = 2, heartbeat: bool = True) -> News:
        news = await self.store.push(Push(self.known, members, quorum, heartbeat=heartbeat, named=named))
        self.known = news.version
        return news

    async def vote(self, *, round_: int = 0, ttl: float = 3.0, left: float = 10.0, **more: Any) -> News:
        return await self.push(Named(NAME, 3.0, vote=Vote(ttl, round_, left, 1, "because")), **more)

    async def lease(self, id_: str = "1", round_: int = 0, limit: int = 1, ttl: float = 5.0) -> Any:
        return await self.store.lease(LeaseWish(NAME, f"{self.name}|{id_}", round_, limit, ttl))

    async def verdict(self, outcome: str, round_: int, id_: str = "1", **more: Any) -> Record:
        return await self.store.verdict(Verdict(NAME, f"{self.name}|{id_}", round_, outcome, **more))


class Scene:
    """Some pods at one server."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.pods: dict[str, Pod] = {}

    def pod(self, name: str = "a", namespace: str = "shop") -> Pod:
        return self.pods.setdefault(name, Pod(self.server, name, namespace))

    async def ask(self, *command: str | bytes | float) -> Any:
        return await self.server.ask(*command)

    async def opened(self, left: float = 10.0) -> Record:
        """The circuit that two of three pods opened."""
        for name in "abc":
            await self.pod(name).push()
        await self.pod("a").vote(left=left)
        (record,) = (await self.pod("b").vote(left=left)).records
        assert record.state is State.OPEN
        return record

    async def over(self) -> Record:
        """The same, when its period is over."""
        record = await self.opened(0.001)
        await self.ask("HSET", f"{KEY}c:{NAME}", "until", "1")
        return record


@pytest.fixture(params=["redis", "valkey"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path, no_task_leaks: None) -> AsyncIterator[Scene]:  # noqa: ARG001
    async with redis_server(tmp_path, request.param) as server:
        scene = Scene(server)
        yield scene
        for pod in scene.pods.values():
            await pod.store.close()


# Members and versions


async def test_a_member_is_counted_while_it_is_heard_of(scene: Scene) -> None:
    assert (await scene.pod("a").push()).members == 1
    assert (await scene.pod("b").push()).members == 2
    await scene.ask("ZADD", f"{KEY}members", 1, "a")
    assert (await scene.pod("b").push(heartbeat=False)).members == 1
    await scene.pod("b").push()
    assert await scene.ask("HKEYS", f"{KEY}who") == [b"b"]


async def test_who_leaves_is_a_member_no_more_and_its_votes_and_leases_are_void(scene: Scene) -> None:
    record = await scene.over()
    assert (await scene.pod("a").lease(round_=record.round)).granted
    await scene.pod("a").store.leave([NAME], [(NAME, "a|1")])
    view = await scene.pod("b").store.view([(NAME, 3.0)])
    assert {member.id for member in view.members} == {"b", "c"}
    assert (view.circuits[NAME].voters, view.circuits[NAME].probing) == (("b",), ())


async def test_the_version_is_looked_at_with_one_get_and_changes_with_what_others_should_know(scene: Scene) -> None:
    pod = scene.pod("c")
    assert await pod.store.version() is None
    await pod.push()
    assert await pod.store.version() == pod.known
    commands = pod.stats.commands
    assert await pod.store.version() == pod.known
    assert pod.stats.commands == commands + 1
    await scene.pod("a").vote(members=3)
    assert await pod.store.version() == pod.known, "one vote changes nothing for others"
    await scene.pod("b").vote(members=3)
    assert await pod.store.version() > pod.known  # type: ignore[operator]  # there is one


async def test_only_what_changed_since_is_told(scene: Scene) -> None:
    await scene.opened()
    assert len((await scene.pod("c").push()).records) == 1
    assert (await scene.pod("c").push()).records == ()
    assert len((await scene.pod("d").push()).records) == 1, "a new pod hears of all"


async def test_namespaces_are_fleets_of_their_own(scene: Scene) -> None:
    await scene.opened()
    other = await scene.pod("x", namespace="other").push()
    assert (other.members, other.records) == (1, ())


# Votes


async def test_one_vote_of_several_pods_opens_nothing(scene: Scene) -> None:
    for name in "abc":
        await scene.pod(name).push()
    news = await scene.pod("a").vote()
    assert news.records == ()
    assert news.pooled == ((NAME, Pooled(0, 0, 0, 1)),)
    assert (await scene.pod("a").vote()).pooled[0][1].votes == 1, "nor do two of the same pod"


async def test_the_quorum_opens_for_all_for_the_time_that_is_left(scene: Scene) -> None:
    record = await scene.opened(7.5)
    assert (record.by, record.detail, record.reopenings) == ("b", "because", 1)
    assert 6.0 < record.left <= 7.5
    (seen,) = (await scene.pod("c").push()).records
    assert seen.round == record.round
    assert seen.left <= record.left


@pytest.mark.parametrize(("quorum", "members", "opens"), [(1, 3, True), (2, 1, True), (2, 2, False), (5, 1, True)])
async def test_as_many_votes_are_needed_as_the_quorum_or_all_if_fewer(
    scene: Scene,
    quorum: int,
    members: int,
    opens: bool,  # noqa: FBT001 - a column
) -> None:
    news = await scene.pod("a").vote(members=members, quorum=quorum)
    assert bool(news.records) is opens


async def test_a_vote_ends_by_itself_and_can_be_withdrawn(scene: Scene) -> None:
    await scene.pod("b").push()
    await scene.pod("a").vote()
    await scene.ask("ZADD", f"{KEY}b:{NAME}", 1, "a")
    assert (await scene.pod("b").vote()).records == ()
    await scene.pod("b").vote(ttl=0.0)
    assert (await scene.pod("a").vote()).records == ()


async def test_a_vote_from_before_the_circuit_closed_does_not_count(scene: Scene) -> None:
    record = await scene.over()
    lease = await scene.pod("c").lease(round_=record.round)
    await scene.pod("c").verdict("success", lease.record.round)
    for name in "ab":
        scene.pod(name).known = NO_VERSION
        assert [one.state for one in (await scene.pod(name).vote(round_=record.round)).records] == [State.CLOSED]
    closed = await scene.pod("c").verdict("release", 0)
    assert await scene.ask("EXISTS", f"{KEY}b:{NAME}") == 0
    await scene.pod("a").vote(round_=closed.round)
    (again,) = (await scene.pod("b").vote(round_=closed.round)).records
    assert again.state is State.OPEN
    assert again.round > closed.round


# Pooled numbers


async def test_counts_of_all_pods_are_pooled_for_the_time_of_the_window(scene: Scene) -> None:
    bucket = 0.2
    await scene.pod("a").push(Named(NAME, bucket, (10, 2, 1)))
    news = await scene.pod("b").push(Named(NAME, bucket, (30, 8, 0)))
    assert news.pooled == ((NAME, Pooled(40, 10, 1, 0)),)

    async def forgotten() -> bool:
        return (await scene.pod("b").store.view([(NAME, bucket)])).circuits[NAME].pooled == Pooled()

    await comes_true(forgotten)
    assert await scene.ask("HLEN", f"{KEY}w:{NAME}") == 0


# Leases


async def test_at_most_so_many_leases_are_out_and_each_ends_by_itself(scene: Scene) -> None:
    record = await scene.over()
    first = await scene.pod("a").lease("1", record.round, limit=2, ttl=0.2)
    assert first.granted
    assert first.record.state is State.HALF_OPEN
    assert first.record.round > record.round
    assert (await scene.pod("b").lease("1", record.round, limit=2, ttl=5.0)).granted
    refused = await scene.pod("c").lease("1", record.round, limit=2)
    assert not refused.granted
    assert 0 < refused.wait <= 0.2

    async def granted() -> bool:
        """Asking again and again renews nobody's lease."""
        return bool((await scene.pod("c").lease("2", record.round, limit=2)).granted)

    await comes_true(granted)


async def test_no_lease_is_given_before_the_period_is_over(scene: Scene) -> None:
    record = await scene.opened(5.0)
    refused = await scene.pod("a").lease(round_=record.round)
    assert not refused.granted
    assert 4.0 < refused.wait <= 5.0
    assert refused.record.state is State.OPEN


async def test_a_returned_lease_is_free_at_once_and_all_hear_of_it(scene: Scene) -> None:
    record = await scene.over()
    heard: list[Heard] = []
    listening = await listen(scene, heard)
    await scene.pod("a").lease(round_=record.round)
    await scene.pod("a").verdict("release", record.round)
    await eventually(lambda: Heard(freed=NAME) in heard)
    assert (await scene.pod("b").lease(round_=record.round)).granted
    listening.cancel()


async def test_successes_of_several_pods_close_together(scene: Scene) -> None:
    record = await scene.over()
    first = await scene.pod("a").lease(round_=record.round)
    after = await scene.pod("a").verdict("success", first.record.round, threshold=2)
    assert after.state is State.HALF_OPEN
    second = await scene.pod("b").lease(round_=record.round)
    assert second.record.round == first.record.round
    closed = await scene.pod("b").verdict("success", second.record.round, threshold=2)
    assert (closed.state, closed.by) == (State.CLOSED, "b")
    view = (await scene.pod("c").store.view([(NAME, 3.0)])).circuits[NAME]
    assert (view.voters, view.probing) == ((), ())


async def test_a_pod_whose_own_circuit_closed_closes_it_for_all(scene: Scene) -> None:
    record = await scene.over()
    lease = await scene.pod("a").lease(round_=record.round)
    assert (await scene.pod("a").verdict("success", lease.record.round, threshold=5, closes=True)).state is State.CLOSED


async def test_a_failed_probe_opens_for_all_again_and_voids_every_lease(scene: Scene) -> None:
    record = await scene.over()
    lease = await scene.pod("a").lease(round_=record.round, limit=2)
    await scene.pod("b").lease(round_=record.round, limit=2)
    again = await scene.pod("a").verdict("failure", lease.record.round, left=9.0, reopenings=4, detail="still")
    assert (again.state, again.reopenings, again.detail) == (State.OPEN, 4, "still")
    assert again.left > 8.0
    late = await scene.pod("b").verdict("success", lease.record.round, closes=True)
    assert (late.state, late.round) == (State.OPEN, again.round), "a verdict for an older round is dropped"


async def test_a_lease_is_held_for_as_long_as_the_upstream_asked_to_wait(scene: Scene) -> None:
    record = await scene.over()
    await scene.pod("a").lease(round_=record.round, ttl=0.2)
    await scene.pod("a").verdict("hold", record.round, left=8.0)
    refused = await scene.pod("b").lease(round_=record.round)
    assert not refused.granted
    assert refused.wait > 7.0


async def test_a_pod_that_knows_of_an_open_circuit_that_redis_lost_may_probe_for_all(scene: Scene) -> None:
    record = await scene.over()
    await scene.ask("FLUSHALL")
    lease = await scene.pod("a").lease(round_=record.round)
    assert lease.granted
    assert lease.record.round > record.round
    (seen,) = (await scene.pod("d").push()).records
    assert seen.state is State.HALF_OPEN


async def test_an_operators_reset_closes_it(scene: Scene) -> None:
    record = await scene.opened()
    closed = await scene.pod("c").store.close_circuit(NAME, record.round, "reset by ann")
    assert (closed.state, closed.detail) == (State.CLOSED, "reset by ann")
    assert (await scene.pod("c").store.close_circuit(NAME, closed.round, "again")).round == closed.round


# Words

FORCED = Word(NAME, 0, OverrideMode.FORCED_OPEN, "a „drill“\n", "ann", 60.0)


async def test_a_word_is_told_to_all_and_to_who_comes_later(scene: Scene) -> None:
    await scene.pod("a").push()
    said = await scene.pod("a").store.say(FORCED)
    assert said.stamp > 0
    assert replace(said, stamp=0, left=60.0) == FORCED
    for pod in (scene.pod("a"), scene.pod("b")):
        (word,) = (await pod.push()).words
        assert replace(word, left=60.0) == replace(said, left=60.0)
        assert word.left is not None
        assert 58.0 < word.left <= 60.0
        assert (await pod.push()).words == ()


async def test_the_last_word_holds_and_one_that_arrives_late_does_not(scene: Scene) -> None:
    said = await scene.pod("a").store.say(replace(FORCED, left=None))
    removed = await scene.pod("b").store.say(Word(NAME, 0, None))
    assert removed.stamp > said.stamp
    late = await scene.pod("a").store.say(replace(FORCED, stamp=said.stamp))
    assert late == removed
    (word,) = (await scene.pod("c").push()).words
    assert word.mode is None


async def test_words_about_what_is_long_over_are_forgotten(scene: Scene) -> None:
    old = {"stamp": "1000000", "mode": "observe", "reason": "", "actor": "", "ends": 1}
    await scene.ask("HSET", f"{KEY}o", "gone", json.dumps(old), "broken", "}{")
    await scene.pod("a").store.say(FORCED)
    assert await scene.ask("HKEYS", f"{KEY}o") == [NAME.encode()]


# What is told at once


async def listen(scene: Scene, heard: list[Heard]) -> asyncio.Task[None]:
    task = asyncio.create_task(scene.pod("listener").store.listen(heard.append))

    async def there() -> bool:
        return bool((await scene.ask("PUBSUB", "NUMSUB", f"{KEY}events"))[1])

    await comes_true(there)
    return task


async def test_every_change_is_heard_with_the_version_that_it_made(scene: Scene) -> None:
    for name in "abc":
        await scene.pod(name).push()
    heard: list[Heard] = []
    listening = await listen(scene, heard)
    record = await scene.opened()
    word = await scene.pod("a").store.say(FORCED)
    await eventually(lambda: len(heard) == 2)
    assert [one.record and one.record.round for one in heard] == [record.round, None]
    assert heard[1].word == word
    assert heard[1].before == heard[0].version
    assert heard[1].version == await scene.pod("a").store.version()
    listening.cancel()


async def test_nonsense_on_the_channel_is_counted_and_what_follows_is_heard(scene: Scene) -> None:
    heard: list[Heard] = []
    listening = await listen(scene, heard)
    for nonsense in ("", "[]", "{", '{"record": {"state": "ajar"}}', '{"v": "x"}', b"\xff\x00", '{"word": 7}'):
        await scene.ask("PUBLISH", f"{KEY}events", nonsense)
    await scene.ask("PUBLISH", f"{KEY}events", json.dumps({"freed": NAME}))
    await eventually(lambda: Heard(freed=NAME) in heard)
    assert scene.pod("listener").stats.errors["garbage"] == 7
    listening.cancel()


# Hygiene


async def test_every_key_has_the_namespace_and_ends(scene: Scene) -> None:
    record = await scene.over()
    await scene.pod("a").lease(round_=record.round)
    await scene.pod("a").push(Named(NAME, 3.0, (1, 1, 0)))
    await scene.pod("a").vote(round_=record.round)
    await scene.pod("a").store.say(FORCED)
    keys = {key.decode() for key in await scene.ask("KEYS", "*")}
    names = {f"{KEY}{name}" for name in ("v", "changed", "members", "who", "o")}
    assert keys == names | {f"{KEY}{kind}:{NAME}" for kind in "cblw"}
    assert all([await scene.ask("PTTL", key) > 0 for key in keys])


WRONG = {"v": "zset", "o": "list", "c": "list"} | dict.fromkeys(("changed", "members", "who", "b", "l", "w"), "string")


@pytest.mark.parametrize("name", WRONG)
async def test_a_key_that_holds_something_else_is_overwritten(scene: Scene, name: str) -> None:
    key = f"{KEY}{name}" + (f":{NAME}" if name in "cblw" else "")
    command = {"zset": ("ZADD", key, 1, "x"), "string": ("SET", key, "x"), "list": ("LPUSH", key, "x")}[WRONG[name]]
    await scene.ask(*command)
    record = await scene.over()
    await scene.ask("DEL", key)
    await scene.ask(*command)
    lease = await scene.pod("a").lease(round_=record.round)
    assert lease.granted
    await scene.pod("a").verdict("success", lease.record.round, closes=True)
    await scene.pod("a").push(Named(NAME, 3.0, (1, 1, 0)))
    said = await scene.pod("a").store.say(FORCED)
    (word,) = (await scene.pod("fresh").push()).words
    assert word.stamp == said.stamp
    assert scene.pod("a").stats.errors["wrong_type"] == 0


GARBAGE = {
    "v": ("SET", f"{KEY}v", "9e999"),
    "version from the far future": ("SET", f"{KEY}v", "1-999999999999999999"),
    "state": ("HSET", f"{KEY}c:{NAME}", "state", "ajar"),
    "round": ("HSET", f"{KEY}c:{NAME}", "round", "nan"),
    "round from the far future": ("HSET", f"{KEY}c:{NAME}", "round", "9007199254740000"),
    "until": ("HSET", f"{KEY}c:{NAME}", "until", "-inf", "n", "x", "ok", b"\xff"),
    "counts": ("HSET", f"{KEY}w:{NAME}", "1r", "x", "zzz", "1"),
    "words": ("HSET", f"{KEY}o", NAME, "[1, 2]", "orders", '{"stamp": []}'),
}


@pytest.mark.parametrize("command", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_passed_over_and_overwritten(scene: Scene, command: tuple[str, ...]) -> None:
    await scene.opened()
    await scene.ask(*command)
    for name in "abc":
        pod = scene.pod(name)
        await pod.push(Named(NAME, 3.0, (1, 1, 0)))
        await pod.vote(round_=2**52)
        await pod.lease(round_=2**50)
        await pod.store.view([(NAME, 3.0)])
    said = await scene.pod("a").store.say(FORCED)
    fresh = await scene.pod("fresh").push()
    assert [word.stamp for word in fresh.words if word.circuit == NAME] == [said.stamp]
    assert [record.circuit for record in fresh.records] == [NAME]


async def test_a_reply_that_makes_no_sense_is_a_failure_of_its_own_kind(scene: Scene) -> None:
    pod = scene.pod("a")
    pod.store._script = replace(pod.store._script, text="return 'not json'", sha="0" * 40)
    with pytest.raises(StoreUnavailable, match="JSONDecodeError"):
        await pod.push()
    assert pod.stats.errors["garbage"] == 1


# The server


async def test_a_server_that_forgot_the_script_is_given_it_again(scene: Scene) -> None:
    await scene.pod("a").push()
    await scene.ask("SCRIPT", "FLUSH")
    commands = scene.pod("a").stats.commands
    await scene.pod("a").push()
    await scene.pod("a").push()
    assert scene.pod("a").stats.commands == commands + 3
    assert sum(scene.pod("a").stats.errors.values()) == 0


async def test_it_goes_by_the_servers_time(scene: Scene) -> None:
    seconds, _ = await scene.ask("TIME")
    assert abs((await scene.pod("a").push()).clock - float(seconds)) < 2.0
