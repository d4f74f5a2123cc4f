"""Answers that are kept ready beside a known head, against the same without that: nobody may tell the difference."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.server.response import encode_head
from sidecar.core.cache_key import key_space
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import BreakerSettings, CacheMode, CacheSettings, CacheStoreSettings, ProxySettings
from sidecar.core.explanation import OverrideMode
from sidecar.core.http import Headers, RequestHead, ResponseHead
from sidecar.core.outcome import Outcome
from sidecar.core.stored import StoredResponse, UseRules
from sidecar.pipeline.errors import CircuitOpen, refusal_format
from sidecar.pipeline.exchange import Request, Response
from sidecar.pipeline.ready_answer import ReadyRefusal
from sidecar.pipeline.stack import Parts, build_stack
from sidecar.pipeline.stats import RouteStats
from tests.support.cache_world import Origin, Reply, WorldClock, receive
from tests.support.circuits import Bench
from tests.support.routes import route
from tests.support.stages import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sidecar.pipeline.ready_answer import Ready

STALE_TTL = 30.0
ID, CLIENT = b"r-1", "10.0.0.9"


class Onion:
    """A stack with the real store, asked for one head over and over; `ready` says how."""

    def __init__(self, *, ready: bool) -> None:
        self.clock = WorldClock()
        self.bench = Bench(self.clock.now, failure_threshold=1, open_duration=20.0)
        self.origin = Origin(self.clock, [self.reply("first")])
        self.store = MemoryStore(CacheStoreSettings(max_size=1 << 20), self.clock)
        self.stats = RouteStats("catalog")
        self.log = Records()
        parts = Parts(ProxySettings(via="edge"), self.clock, self._spawn, self.store, self.log)
        cache = CacheSettings(CacheMode.STANDARD, stale_ttl=STALE_TTL)
        config = route("catalog", cache=cache, breaker=BreakerSettings())
        self.route = config
        self.stack = build_stack(config, self.origin, self.bench.circuit, self.stats, parts)
        self.head = RequestHead("GET", b"/a", Headers([(b"Host", b"a")]), b"a")
        self.ready: Ready | None = None
        self.again = 0
        self.tasks: list[asyncio.Task[None]] = []
        self._keeps = ready

    @staticmethod
    def reply(body: str, lifetime: int = 5, **fields: str) -> Reply:
        return Reply(fields={"Cache-Control": f"max-age={lifetime}", **fields}, body=body.encode())

    def recall(self) -> bytes | None:
        """What memory has, as the server asks for it, and keeps it."""
        now = self.clock.now
        if self._keeps and self.ready is not None:
            octets = self.ready.again(now, ID, CLIENT)
            if octets is not None:
                self.again += 1
                return octets
        answer = self.stack.recall(self.head, now, ID, CLIENT)
        assert not isinstance(answer, Response)
        self.ready = answer
        return None if answer is None else answer.give(now, ID, CLIENT)

    async def ask(self) -> tuple[object, ...]:
        """The answer, from wherever."""
        octets = self.recall()
        if octets is not None:
            return (octets,)
        asked = Request(self.head, b"", request_id=ID, started=self.clock.now, client=CLIENT)
        response = self.stack.answer_now(asked)
        answer = await receive(response if response is not None else await self.stack.answer(asked))
        await asyncio.gather(*self.tasks)
        return answer.status, answer.headers, answer.body

    def trip(self) -> None:
        """The upstream fails once more often than the circuit allows."""
        now = self.clock.now
        permit = self.bench.circuit.ask(now, safe=True)
        if isinstance(permit, Permit):
            self.bench.circuit.settle(permit, Outcome.FAILURE, now)

    def counts(self) -> tuple[object, ...]:
        stats, circuit = self.stats, self.bench.circuit.counters
        histograms = [(one.counts, one.sum) for one in (stats.durations, stats.served_age)]
        return dict(stats.requests), dict(stats.cache_results), histograms, circuit.rejected, self.log.all

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self.tasks.append(task)
        return task


async def warm(onion: Onion) -> bytes:
    """Until an answer is ready, a quarter of a second after it came: a copy is kept from the second use on."""
    for _ in range(3):
        await onion.ask()
    onion.clock.now += 0.25
    await onion.ask()
    before = onion.again
    octets = onion.recall()
    assert octets is not None
    assert onion.again == before + 1
    return octets


def override(onion: Onion, mode: OverrideMode) -> None:
    onion.bench.circuit.override(mode, "", "", 3.0, onion.clock.now)


def renew(onion: Onion, number: int) -> None:
    """From now on the upstream answers something else, which lives for another time."""
    onion.origin.replies = [onion.reply(f"reply {number}", lifetime=1 + number % 7)]


def invalidate(onion: Onion) -> None:
    for key in stored_keys(onion.store):
        onion.store.invalidate(key)


ACTS: dict[str, Callable[[Onion, int], object]] = {
    "new reply": renew,
    "purge": lambda onion, _: onion.store.purge(prefix=b"http://"),
    "purge other": lambda onion, _: onion.store.purge(tag=b"other"),
    "invalidate": lambda onion, _: invalidate(onion),
    "put other": lambda onion, number: put_other(onion.store, number),
    "trip": lambda onion, _: onion.trip(),
    "reset": lambda onion, _: onion.bench.circuit.reset(onion.clock.now),
    "force open": lambda onion, _: override(onion, OverrideMode.FORCED_OPEN),
    "force closed": lambda onion, _: override(onion, OverrideMode.FORCED_CLOSED),
    "release": lambda onion, _: onion.bench.circuit.release_override(onion.clock.now),
}


def answer_to(onion: Onion) -> StoredResponse:
    """An answer to what is asked, as the cache would have stored it."""
    head = ResponseHead(200, Headers([(b"Content-Length", b"1")]), b"OK")
    now = onion.clock.now
    rules, url = UseRules(), b"http://catalog.svc:8080/a"
    key = key_space(onion.route, client_forwarded=False).key(onion.head)
    return StoredResponse(key, (), head, b"x", now, now + 60, now + 90, onion.clock.wall(), rules, "catalog", url)


STEPS = st.one_of(
    st.just("ask"),
    st.just("ask"),
    st.sampled_from([0.001, 0.4, 0.999, 1.0, 1.7, 4.0, 11.0, STALE_TTL]),
    st.sampled_from(sorted(ACTS)),
)


def act(onion: Onion, step: str | float, number: int) -> None:
    """Let time pass, or do what is called that."""
    if isinstance(step, str):
        ACTS[step](onion, number)
    else:
        onion.clock.now += step


def stored_keys(store: MemoryStore) -> list[bytes]:
    return [stored.key for batch in store.export() for _, stored in batch]


def put_other(store: MemoryStore, number: int) -> None:
    for batch in [*store.export()]:
        for _, stored in batch:
            key = b"other %d" % number
            store.put(
                type(stored)(key, *(getattr(stored, name) for name in type(stored).__slots__[1:-1])), store.begin(key)
            )


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, min_size=1, max_size=40))
def test_nobody_can_tell_a_ready_answer_from_one_looked_up(steps: list[str | float]) -> None:
    async def both() -> None:
        kept, plain = Onion(ready=True), Onion(ready=False)
        for onion in (kept, plain):
            for _ in range(4):
                await onion.ask()
            onion.clock.now += 0.25
        for number, step in enumerate(steps):
            if step == "ask":
                assert await kept.ask() == await plain.ask()
            else:
                act(kept, step, number)
                act(plain, step, number)
        assert await kept.ask() == await plain.ask()
        assert kept.counts() == plain.counts()

    asyncio.run(both())


async def test_within_a_second_the_octets_are_the_same_and_then_the_age_counts_on() -> None:
    onion = Onion(ready=True)
    octets = await warm(onion)
    assert b"\r\nAge: 0\r\n" in octets
    onion.clock.now += 0.7
    used = onion.again
    assert onion.recall() == octets
    onion.clock.now += 0.3
    assert onion.recall() == octets.replace(b"Age: 0", b"Age: 1").replace(b"ttl=4", b"ttl=3")
    assert onion.again == used + 1


@pytest.mark.parametrize("end", ["purge", "invalidate", "expiry"])
async def test_it_ends_at_once_with_what_it_rests_on(end: str) -> None:
    onion = Onion(ready=True)
    await warm(onion)
    if end == "expiry":
        onion.clock.now += 5.0
    else:
        act(onion, end, 0)
    assert onion.ready is not None
    assert onion.ready.again(onion.clock.now, ID, CLIENT) is None


async def test_it_outlives_what_happens_to_others_in_the_store() -> None:
    onion = Onion(ready=True)
    await warm(onion)
    put_other(onion.store, 1)
    used = onion.again
    assert onion.recall() is not None
    assert onion.again == used + 1


async def test_a_stale_one_counts_a_refusal_each_time_and_ends_when_the_circuit_admits() -> None:
    onion = Onion(ready=True)
    await warm(onion)
    onion.clock.now += 6.0
    onion.trip()
    octets, refused, used = await warm(onion), onion.bench.circuit.counters.rejected, onion.again
    assert b"detail=circuit_open" in octets
    assert [onion.recall() for _ in range(3)] == [octets] * 3
    assert (onion.bench.circuit.counters.rejected - refused, onion.again - used) == (3, 3)
    assert onion.ready is not None
    onion.bench.circuit.reset(onion.clock.now)
    assert onion.ready.again(onion.clock.now, ID, CLIENT) is None


async def test_a_stale_one_ends_with_its_stale_ttl() -> None:
    onion = Onion(ready=True)
    await warm(onion)
    onion.bench.circuit.override(OverrideMode.FORCED_OPEN, "", "", None, onion.clock.now)
    onion.clock.now += 5.0 + STALE_TTL - 0.75
    await warm(onion)
    onion.clock.now += 0.25
    assert onion.ready is not None
    assert onion.ready.again(onion.clock.now, ID, CLIENT) is None


async def refusing() -> tuple[Onion, bytes]:
    """Nothing is stored, the circuit is open, and a refusal is ready."""
    onion = Onion(ready=True)
    onion.trip()
    onion.clock.now += 0.25
    onion.recall()
    octets = onion.recall()
    assert octets is not None
    assert (onion.again, isinstance(onion.ready, ReadyRefusal)) == (1, True)
    return onion, octets


async def test_a_ready_refusal_is_the_answer_to_the_error() -> None:
    onion, octets = await refusing()
    asked = Request(onion.head, b"", request_id=ID, started=onion.clock.now, client=CLIENT)
    asked.route_name = "catalog"
    response = onion.stack.answer_now(asked)
    assert response is not None
    date = b"Date: %b\r\n" % onion.clock.date().encode()
    assert isinstance(response.body, bytes)
    assert octets == encode_head(response, date) + response.body
    assert len({record._replace(duration=0.0) for record in onion.log.all}) == 1


async def test_a_ready_refusal_counts_each_time() -> None:
    onion, octets = await refusing()
    assert [onion.recall() for _ in range(3)] == [octets] * 3
    assert onion.bench.circuit.counters.rejected == 5
    assert dict(onion.stats.requests) == {("GET", 503, "circuit"): 5}
    assert (dict(onion.stats.cache_results), sum(onion.stats.served_age.counts)) == ({}, 0)
    assert len(onion.log.all) == 5
    assert onion.log.all[-1].reason == "circuit_open"


@pytest.mark.parametrize("end", ["reset", "force open", "force closed", "another trip", "a stored answer", "a second"])
async def test_a_ready_refusal_ends_with_what_it_says(end: str) -> None:
    onion, _ = await refusing()
    circuit, now, ready = onion.bench.circuit, onion.clock.now, onion.ready
    if end == "another trip":
        circuit.reset(now)
        onion.trip()
    elif end == "a stored answer":
        stored = answer_to(onion)
        assert onion.store.put(stored, onion.store.begin(stored.key))
    elif end == "a second":
        onion.clock.now += 0.75
    else:
        act(onion, end, 0)
    rejected = circuit.counters.rejected
    assert ready is not None
    assert ready.again(onion.clock.now, ID, CLIENT) is None
    assert circuit.counters.rejected == rejected


def test_octets_that_mean_something_to_a_format_pass() -> None:
    octets, size = refusal_format(CircuitOpen("100 % of %d \u00e9"), "a%b", "edge", b"now")
    head, _, body = (octets % (size + 2, b"id", b"id")).partition(b"\r\n\r\n")
    told = json.loads(body)
    assert (told["detail"], told["route"], told["request_id"]) == ("100 % of %d \u00e9", "a%b", "id")
    assert b"\r\nContent-Length: %d\r\nX-Request-Id: id\r\nDate: now" % len(body) in head
