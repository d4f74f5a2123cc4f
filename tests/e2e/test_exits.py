"""Every way in which a request that passes all stages may end, and what each stage has of it afterwards: nothing.

A row of the table is one exit. Its request meets every stage, each of which is configured; then each must have settled
it exactly once: one count in the requests, one line in the log, one token, one request of the retry budget, one outcome
for each attempt; and no slot, place, permit, task or connection may be left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.rate_limit import TokenBucket
from sidecar.pipeline import breaker_stage, stack
from sidecar.pipeline.message import Body
from tests.support.configured import Configured, KeptLines, written
from tests.support.leaks import still_running
from tests.support.origin import AGAIN, GATE, OK, READ, READ_HEAD, RESET, STALL, WELL_BEHAVED, RawOrigin
from tests.support.wire import PATIENCE, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts
    from tests.support.client import RawClient
    from tests.support.origin import Script
    from tests.support.running import Metrics

SICK = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy"
STORABLE = b'HTTP/1.1 200 OK\r\nCache-Control: max-age=%d\r\nETag: "a"\r\nContent-Length: 2\r\n\r\nok'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
FAILING: Script = (READ, SICK, AGAIN)
GET = b"GET /shop/1 HTTP/1.1\r\nHost: a\r\n%b\r\n"
PUT = b"PUT /shop/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello"
BACKUP = {"upstream": "backup"}
EVERYTHING: dict[str, Any] = {
    "timeouts": {"total": "1m"},
    "fallback": BACKUP,
    "fault": {"delay": {"duration": "1ms"}, "match": {"headers": {"x-never": "x"}}, "ttl": "1h"},
    "cache": {"mode": "standard", "stale_ttl": "1h"},
    "rate_limit": {"rate": "100/h", "burst": 100},
    "bulkhead": {"max_concurrent": 5, "adaptive": True, "priority": {"header": "x-priority", "low": ["batch"]}},
    "retry": {"attempts": 2, "backoff": {"base": "1ms", "max": "1ms"}, "budget": {"share": "100%", "floor": 10}},
    "breaker": {"failure_threshold": 4, "open_duration": "1h"},
}
"""Every stage is there. `backup` fails unless a row says otherwise, so that the client gets what it would have got."""
WITH_HEDGES = {**EVERYTHING, "retry": {**EVERYTHING["retry"], "hedge": {"after": "30s"}}}
"""And each GET is an attempt in a task of its own, that might get a second one."""


class Scene:
    """A sidecar with every policy, between clients and two origins."""

    def __init__(self, sidecar: Configured, log: KeptLines, shop: RawOrigin, backup: RawOrigin) -> None:
        self.sidecar = sidecar
        self.shop = shop
        self.backup = backup
        self.log = log

    async def send(self, data: bytes = GET % b"") -> RawClient:
        """A client that has sent this, which the upstream has begun to read."""
        before = len(self.shop.connections), self._heard()
        client = await self.sidecar.connect()
        await client.send(data)
        await self.shop.until(lambda shop: (len(shop.connections), self._heard()) != before)
        return client

    def _heard(self) -> int:
        return sum(len(connection.received) for connection in self.shop.connections)

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Wait until a metric has this value."""
        async with asyncio.timeout(PATIENCE):
            while (await self.sidecar.metrics()).total(name, **labels) != value:  # noqa: ASYNC110 - see is_quiet
                await asyncio.sleep(0.005)

    def logged(self) -> int:
        self.sidecar.running.data.flush()
        return sum(line.get("route") == "shop" for line in self.log.lines)


@asynccontextmanager
async def scene(file: Path, settings: dict[str, Any], *shop: Script, backup: Script = FAILING) -> AsyncIterator[Scene]:
    first, second = RawOrigin(*shop), RawOrigin(backup)
    await first.start()
    await second.start()
    log = KeptLines()
    upstreams = {
        "shop": {"url": first.url, **settings},
        "backup": {"url": second.url, "cache": {"mode": "off"}, "breaker": {"failure_threshold": 100}},
    }
    sidecar = await Configured.begin(file, written(upstreams), log)  # type: ignore[arg-type]
    try:
        yield Scene(sidecar, log, first, second)
    finally:
        sidecar.hang_up()
        await sidecar.stop()
        await first.stop()
        await second.stop()


# What clients do, from the request to what they get


def gets(data: bytes = GET % b"", method: str = "GET") -> Callable[[Scene], Awaitable[None]]:
    """The whole answer."""

    async def act(it: Scene) -> None:
        await it.sidecar.exchange(data, method)

    return act


async def uploads(it: Scene) -> None:
    """The answer to a body of which the second half came when the first one had arrived."""
    client = await it.send(PUT)
    origin = it.shop
    await origin.until(lambda _: any(b"hello" in connection.received for connection in origin.connections))
    await client.send(b"world")
    await client.response("PUT")


async def leaves_before_the_head(it: Scene) -> None:
    client = await it.send()
    await it.shop.until(lambda shop: shop.requests)
    client.reset()


async def leaves_in_its_own_body(it: Scene) -> None:
    client = await it.send(PUT)
    await it.shop.until(lambda shop: b"hello" in shop.connections[0].received)
    client.reset()


async def leaves_in_the_body(it: Scene) -> None:
    client = await it.send()
    await client.until(lambda: b"half" in client.received)
    client.reset()


async def leaves_before_the_retry(it: Scene) -> None:
    client = await it.send()
    await it.until("sidecar_circuit_calls_total", 1, circuit="shop", outcome="failure")
    client.reset()


async def leaves_the_queue(it: Scene) -> None:
    client = await it.sidecar.connect()
    await client.send(GET % b"")
    await it.until("sidecar_bulkhead_queued", 1)
    client.reset()


async def is_reset(it: Scene) -> None:
    client = await it.sidecar.connect()
    await client.send(GET % b"")
    await client.until(lambda: client.ended)
    assert (client.ended, bytes(client.received)) == (Ending.RESET, b"")


async def reads_what_comes_late(it: Scene) -> None:
    client = await it.send()
    await client.until(lambda: b"half" in client.received)
    it.shop.gate.set()
    assert (await client.response()).body == b"halfhalf"


def is_cut(data: bytes = GET % b"") -> Callable[[Scene], Awaitable[None]]:
    """The beginning of an answer, which cannot be mistaken for a whole one."""

    async def act(it: Scene) -> None:
        client = await it.send(data)
        assert await client.was_cut()

    return act


async def tunnels(it: Scene) -> None:
    client = await it.send(GET % b"Connection: Upgrade\r\nUpgrade: x\r\n")
    await client.until(lambda: b"pong" in client.received)
    client.close()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a request ends: what the client does and gets, and what the stages say of it.

    `code` and `source` are of the one count in the requests. `outcomes` are what the circuit was told, `counted` and
    `spent` the requests and the retries of the budget, `tokens` those taken. `before` comes before the counting.
    `occupied`: another request is under way meanwhile, which then succeeds.
    """

    act: Callable[[Scene], Awaitable[None]]
    code: int
    source: str
    shop: tuple[Script, ...] = (WELL_BEHAVED,)
    outcomes: dict[str, int] = field(default_factory=dict)
    counted: int = 1
    spent: int = 0
    tokens: int = 1
    backup: Script = FAILING
    before: Callable[[Scene], Awaitable[None]] | None = None
    occupied: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


EXITS = {
    "a whole answer": Exit(gets(), 200, "upstream", outcomes={"success": 1}),
    "a streamed answer": Exit(
        reads_what_comes_late, 200, "upstream", ((READ, HEAD, b"half", GATE, b"half", AGAIN),), {"success": 1}
    ),
    "an upload": Exit(uploads, 200, "upstream", outcomes={"success": 1}),
    "an answer to HEAD": Exit(
        gets(b"HEAD /shop/1 HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD"),
        200,
        "upstream",
        ((READ, HEAD, AGAIN),),
        {"success": 1},
    ),
    "a malformed answer": Exit(gets(), 502, "error", ((READ, b"HTTP/9 what\r\n\r\n"),), {"failure": 1}),
    "an answer that is cut": Exit(is_cut(), 200, "upstream", ((READ, HEAD, b"half", RESET),), {"failure": 1}),
    "a 503, then a good answer": Exit(
        gets(), 200, "upstream", ((READ, SICK, READ, OK, AGAIN),), {"failure": 1, "success": 1}, spent=1
    ),
    "a reset, then a good answer": Exit(
        gets(), 200, "upstream", ((READ, RESET), WELL_BEHAVED), {"failure": 1, "success": 1}, spent=1
    ),
    "an upload whose first half was reset": Exit(
        uploads,
        200,
        "upstream",
        ((READ_HEAD, RESET), WELL_BEHAVED),
        {"failure": 1, "success": 1},
        spent=1,
    ),
    "retries exhausted": Exit(gets(), 503, "upstream", (FAILING,), {"failure": 2}, spent=1),
    "an upload that fails twice": Exit(uploads, 503, "upstream", (FAILING,), {"failure": 2}, spent=1),
    "a client that leaves before the head": Exit(
        leaves_before_the_head, 499, "error", ((READ, STALL),), {"cancelled": 1}
    ),
    "a client that leaves in its own body": Exit(
        leaves_in_its_own_body, 499, "error", ((READ_HEAD, STALL),), {"cancelled": 1}
    ),
    "a client that leaves in the body": Exit(
        leaves_in_the_body, 200, "upstream", ((READ, HEAD, b"half", STALL),), {"cancelled": 1}
    ),
    "a client that leaves before the retry": Exit(
        leaves_before_the_retry, 499, "error", ((READ, BUSY, AGAIN),), {"failure": 1}, spent=1
    ),
    "a client that leaves the queue": Exit(
        leaves_the_queue,
        499,
        "error",
        ((READ, GATE, OK, AGAIN),),
        counted=0,
        occupied=True,
        settings={"bulkhead": {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "1h", "adaptive": True}},
    ),
    "the client's deadline": Exit(
        gets(GET % b"X-Request-Timeout-Ms: 100\r\n"), 504, "error", ((READ, STALL),), {"cancelled": 1}
    ),
    "the client's deadline in the body": Exit(
        is_cut(GET % b"X-Request-Timeout-Ms: 300\r\n"),
        200,
        "upstream",
        ((READ, HEAD, b"half", STALL),),
        {"cancelled": 1},
    ),
    "the total": Exit(
        gets(), 504, "error", ((READ, STALL),), {"failure": 1}, settings={"timeouts": {"total": "100ms"}}
    ),
    "a deadline that has passed": Exit(gets(GET % b"X-Request-Timeout-Ms: 0\r\n"), 504, "error", counted=0, tokens=0),
    "refused by the circuit": Exit(
        gets(),
        503,
        "circuit",
        (FAILING,),
        before=gets(),
        settings={"breaker": {"failure_threshold": 1, "open_duration": "1h"}},
    ),
    "refused by the bulkhead": Exit(
        gets(),
        503,
        "bulkhead",
        ((READ, GATE, OK, AGAIN),),
        counted=0,
        occupied=True,
        settings={"bulkhead": {"max_concurrent": 1, "adaptive": True}},
    ),
    "given up in the queue": Exit(
        gets(),
        503,
        "bulkhead",
        ((READ, GATE, OK, AGAIN),),
        counted=0,
        occupied=True,
        settings={"bulkhead": {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "20ms", "adaptive": True}},
    ),
    "refused by the rate limit": Exit(
        gets(),
        429,
        "rate_limit",
        counted=0,
        tokens=0,
        before=gets(),
        settings={"rate_limit": {"rate": "1/h", "burst": 1}},
    ),
    "a stale answer after failures": Exit(
        gets(),
        200,
        "stale",
        ((READ, STORABLE % 0, READ, SICK, READ, SICK, AGAIN),),
        {"failure": 2},
        spent=1,
        before=gets(),
    ),
    "a stale answer past a full bulkhead": Exit(
        gets(),
        200,
        "stale",
        ((READ, STORABLE % 0, READ, GATE, OK, AGAIN),),
        counted=0,
        before=gets(),
        occupied=True,
        settings={"bulkhead": {"max_concurrent": 1, "adaptive": True}},
    ),
    "a hit": Exit(gets(), 200, "cache", ((READ, STORABLE % 60, AGAIN),), counted=0, tokens=0, before=gets()),
    "a static fallback": Exit(
        gets(), 200, "fallback", (FAILING,), {"failure": 2}, spent=1, settings={"fallback": [BACKUP, {"body": "calm"}]}
    ),
    "another upstream": Exit(gets(), 200, "fallback", (FAILING,), {"failure": 2}, spent=1, backup=WELL_BEHAVED),
    "another upstream, after an upload": Exit(
        uploads, 200, "fallback", (FAILING,), {"failure": 2}, spent=1, backup=WELL_BEHAVED
    ),
    "an abort on purpose": Exit(
        gets(),
        503,
        "fault",
        outcomes={"failure": 1},
        counted=0,
        tokens=0,
        settings={"fault": {"abort": {"status": 503}, "ttl": "1h"}},
    ),
    "a delay on purpose": Exit(
        gets(),
        200,
        "upstream",
        outcomes={"success": 1},
        settings={"fault": {"delay": {"duration": "20ms"}, "ttl": "1h"}},
    ),
    "a reset on purpose": Exit(
        is_reset, 502, "fault", counted=0, tokens=0, settings={"fault": {"reset": {}, "ttl": "1h"}}
    ),
    "a slow body on purpose": Exit(
        gets(),
        200,
        "upstream",
        outcomes={"success": 1},
        settings={"fault": {"slow_body": {"rate": 50}, "ttl": "1h"}},
    ),
    "an upgrade": Exit(tunnels, 101, "upstream", ((READ, SWITCHED, b"pong", STALL),), {"success": 1}),
}


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request that asked a rate limit: whether it took a token."""
    taken: list[bool] = []
    take = TokenBucket.take

    def counting(bucket: TokenBucket, now: float) -> float:
        seconds = take(bucket, now)
        taken.append(seconds == 0)
        return seconds

    monkeypatch.setattr(TokenBucket, "take", counting)
    return taken


class Books:
    """What the stages have written down of the route's requests so far."""

    def __init__(self, seen: Metrics, logged: int) -> None:
        self.seen = seen
        self.logged = logged

    @classmethod
    async def of(cls, it: Scene) -> Books:
        return cls(await it.sidecar.metrics(), it.logged())

    @property
    def outcomes(self) -> Counter[str]:
        counts = Counter[str]()
        for (name, labels), value in self.seen.samples.items():
            if name == "sidecar_circuit_calls_total" and ("circuit", "shop") in labels and value:
                counts[dict(labels)["outcome"]] += int(value)
        return counts

    @property
    def requests(self) -> float:
        return self.seen.total("sidecar_requests_total", route="shop")

    def answers(self, code: int, source: str) -> float:
        return self.seen.total("sidecar_requests_total", route="shop", code=str(code), source=source)

    @property
    def budget(self) -> float:
        """Of a share of 100 %: as many as there were requests, less the retries, and a floor."""
        return self.seen.total("sidecar_retry_budget_available", upstream="shop")

    @property
    def left(self) -> dict[str, float]:
        """What must be 0 when nothing is under way."""
        return {
            "requests": self.seen.total("sidecar_requests_in_flight"),
            "slots": self.seen.total("sidecar_bulkhead_in_use"),
            "places": self.seen.total("sidecar_bulkhead_queued"),
            "connections": self.seen.total("sidecar_upstream_connections", state="active"),
        }


@pytest.mark.parametrize("policies", [EVERYTHING, WITH_HEDGES], ids=["", "hedged"])
@pytest.mark.parametrize("way", EXITS.values(), ids=EXITS)
async def test_each_stage_settles_a_request_once(
    tmp_path: Path, way: Exit, policies: dict[str, Any], tokens: list[bool]
) -> None:
    settings = {**policies, **way.settings}
    async with scene(tmp_path / "sidecar.yaml", settings, *way.shop, backup=way.backup) as it:
        before_all = asyncio.all_tasks()
        if way.before is not None:
            await way.before(it)
        occupant = await it.send(GET.replace(b"/shop/1", b"/shop/2") % b"") if way.occupied else None
        before = await Books.of(it)
        tokens.clear()

        await way.act(it)
        if occupant is not None:
            # The one that is looked at is over before the other ends.
            await it.until("sidecar_requests_in_flight", 1)
            it.shop.gate.set()
            assert (await occupant.response()).status == 200

        await it.sidecar.is_quiet()
        it.sidecar.hang_up()
        others = 1 if way.occupied else 0
        after = await Books.of(it)
        assert after.left == dict.fromkeys(after.left, 0)
        assert it.sidecar.permits() == 0
        assert after.answers(way.code, way.source) - before.answers(way.code, way.source) == 1
        assert after.requests - before.requests == after.logged - before.logged == 1 + others
        assert after.outcomes - before.outcomes == Counter(way.outcomes) + Counter(success=others)
        assert (sum(tokens), after.budget - before.budget) == (way.tokens, way.counted - way.spent)
        await it.shop.stop()
        await it.backup.stop()
        assert await still_running(before_all) == set()


async def test_a_hedge_and_the_attempt_that_it_beats_are_settled_once_each(tmp_path: Path, tokens: list[bool]) -> None:
    settings = {**EVERYTHING, "retry": {**EVERYTHING["retry"], "hedge": {"after": "20ms"}}}
    async with scene(tmp_path / "sidecar.yaml", settings, (READ, STALL), WELL_BEHAVED) as it:
        before = await Books.of(it)
        await gets()(it)
        await it.sidecar.is_quiet()
        after = await Books.of(it)
        assert after.left == dict.fromkeys(after.left, 0)
        assert after.outcomes == Counter(success=1, cancelled=1)
        assert (after.requests, after.logged, tokens, after.budget - before.budget) == (1, 1, [True], 1 - 1)


BREAKER_DEPTH = stack.STAGES.index(breaker_stage.around)


class Defect:
    """A stage that fails in a way that nobody has foreseen, before the stages within or after them."""

    def __init__(self, inner: Handler, *, late: bool) -> None:
        self._inner = inner
        self._late = late

    async def handle(self, request: Request) -> Response:
        if self._late:
            response = await self._inner.handle(request)
            if isinstance(response.body, Body):
                response.body.close()
        raise ZeroDivisionError


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("depth", range(len(stack.STAGES)))
@pytest.mark.parametrize("policies", [EVERYTHING, WITH_HEDGES], ids=["", "hedged"])
async def test_a_defect_at_any_depth_leaves_nothing_behind(
    tmp_path: Path, depth: int, policies: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    def around(inner: Handler, _: RouteParts) -> Handler:
        return Defect(inner, late=late)

    monkeypatch.setattr(stack, "STAGES", (*stack.STAGES[:depth], around, *stack.STAGES[depth:]))
    script = READ, HEAD, b"halfhalf", AGAIN
    async with scene(tmp_path / "sidecar.yaml", policies, script) as it:
        answer = await it.sidecar.get("/shop/1")
        assert (answer.status, b"internal_error" in answer.body) == (500, True)
        assert await it.sidecar.is_quiet()
        books = await Books.of(it)
        assert books.left == dict.fromkeys(books.left, 0)
        assert (books.requests, books.logged, books.answers(500, "error")) == (1, 1, 1)
        assert it.sidecar.permits() == 0
        # Up to the circuit's stage it is within the circuit, which has given a permit.
        assert books.outcomes.total() == (1 if late or depth <= BREAKER_DEPTH else 0)
