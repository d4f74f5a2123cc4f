"""Collapsed forwarding (cache.md 23) with real concurrency: clients on sockets of their own, and a real origin."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.caching_origin import caching_origin, message
from tests.support.origin import AGAIN, CLOSE, GATE, OK, READ, RESET, STALL, Script
from tests.support.running import config_text
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import LaunchSidecar, StartOrigin, StartSidecar
    from tests.support.client import RawClient
    from tests.support.messages import WireRequest, WireResponse
    from tests.support.running import InProcess, Sidecar

CROWD = 100
NO_TRIPS = {"failure_threshold": None, "failure_rate": None}
SETTINGS: dict[str, Any] = {"cache": {}, "breaker": NO_TRIPS}
FRESH = "Cache-Control: max-age=60"


async def ask(sidecar: Sidecar, number: int, *lines: str, target: str = "/item") -> list[RawClient]:
    """So many clients, each with a connection of its own, ask for the same at the same time."""
    clients = [await sidecar.connect() for _ in range(number)]
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines]).encode() + b"\r\n\r\n"
    for client in clients:
        client.transport.write(head)
    return clients


async def responses(clients: Iterable[RawClient]) -> list[WireResponse]:
    return await asyncio.gather(*(client.response() for client in clients))


async def all_in(sidecar: InProcess, number: int) -> None:
    """Wait until so many requests are in the sidecar's hands."""
    assert sidecar.app is not None
    stats = sidecar.app.data.routes.stats["all"]
    await eventually(lambda: stats.in_flight == number)


def statuses(answers: Iterable[WireResponse]) -> set[bytes]:
    return {answer.get("cache-status") or b"" for answer in answers}


@pytest.mark.parametrize(
    "body",
    [
        (b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody",),
        (b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbo", GATE, b"dy"),
        (b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", GATE,
         b"2\r\ndy\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nbo", GATE, b"dy", CLOSE),
    ],
    ids=["at once", "in pieces", "in chunks", "until the close"],
)  # fmt: skip
async def test_a_crowd_on_one_cold_key_makes_one_upstream_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar, body: Script
) -> None:
    origin = await start_origin((READ, GATE, *body, AGAIN))
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    clients = await ask(sidecar, CROWD)
    await all_in(sidecar, CROWD)
    origin.gate.set()
    answers = await responses(clients)
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"body")}
    assert statuses(answers) == {b"sidecar; fwd=uri-miss; stored", b"sidecar; fwd=uri-miss; collapsed"}
    assert origin.lines == ["GET /item"]
    assert (await sidecar.get("/item")).get("cache-status") == b"sidecar; hit; ttl=59"
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_cache_requests_total", result="collapsed") == CROWD - 1


async def test_a_crowd_on_one_stale_key_makes_one_revalidation(start_origin: StartOrigin) -> None:
    confirmed = b'HTTP/1.1 304 Not Modified\r\nETag: "v"\r\nCache-Control: max-age=60\r\n\r\n'
    origin = await start_origin((READ, message(b"body", 'ETag: "v"', FRESH), AGAIN), (READ, GATE, confirmed, AGAIN))
    async with still_sidecar(origin, upstream=SETTINGS) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        clients = await ask(sidecar, CROWD)
        await all_in(sidecar, CROWD)
        origin.gate.set()
        assert {answer.body for answer in await responses(clients)} == {b"body"}
    assert len(origin.requests) == 2


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ((READ, GATE, RESET), 502),
        ((READ, GATE, CLOSE), 502),
        ((READ, GATE, b"nonsense\r\n\r\n", CLOSE), 502),
        ((READ, GATE, message(b"no", status=503), AGAIN), 503),
        ((READ, STALL), 504),
    ],
    ids=["reset", "closed", "malformed", "503", "no answer"],
)
async def test_a_crowd_on_one_cold_key_and_a_dead_upstream_shares_the_failure(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script, status: int
) -> None:
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin, upstream={**SETTINGS, "timeouts": {"first_byte": "300ms"}})
    clients = await ask(sidecar, 30)
    await all_in(sidecar, 30)
    origin.gate.set()
    assert {answer.status for answer in await responses(clients)} == {status}
    assert 1 <= len(origin.requests) <= 2


async def test_a_crowd_on_one_cold_key_and_nobody_listening_connects_once(start_origin: StartOrigin) -> None:
    origin = await start_origin()
    await origin.stop()
    async with still_sidecar(origin, upstream=SETTINGS) as sidecar:
        clients = await ask(sidecar, 30)
        assert {answer.status for answer in await responses(clients)} == {502}
        attempts = (await sidecar.metrics()).total("sidecar_upstream_attempts_total")
    assert 1 <= attempts <= 2


async def test_a_crowd_on_one_stale_key_and_a_dead_upstream_shares_the_stale_answer(start_origin: StartOrigin) -> None:
    origin = await start_origin((READ, message(b"body", FRESH), AGAIN), (READ, GATE, RESET))
    async with still_sidecar(origin, upstream=SETTINGS) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        clients = await ask(sidecar, 30)
        await all_in(sidecar, 30)
        origin.gate.set()
        answers = await responses(clients)
    assert {(answer.status, answer.get("age")) for answer in answers} == {(200, b"100")}
    assert statuses(answers) == {b"sidecar; hit; ttl=-40; detail=upstream_error"}
    assert 2 <= len(origin.requests) <= 3


async def test_a_crowd_behind_a_circuit_that_opens_meanwhile_is_refused(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, RESET))
    breaker = {**NO_TRIPS, "failure_threshold": 1}
    sidecar = await start_sidecar(origin, upstream={"cache": {}, "breaker": breaker})
    clients = await ask(sidecar, 30)
    await all_in(sidecar, 30)
    origin.gate.set()
    assert {answer.status for answer in await responses(clients)} <= {502, 503}
    assert (await sidecar.get("/item")).status == 503
    assert len(origin.requests) == 1


# Those who leave


async def test_a_leader_that_leaves_before_the_answer_does_not_end_it_for_the_others(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, message(b"body", FRESH), AGAIN))
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    (leader,) = await ask(sidecar, 1)
    await origin.until(lambda origin: origin.requests)
    others = await ask(sidecar, 20)
    await all_in(sidecar, 21)
    leader.transport.abort()
    await all_in(sidecar, 20)
    origin.gate.set()
    assert {answer.body for answer in await responses(others)} == {b"body"}
    assert len(origin.requests) == 1


async def test_a_leader_that_leaves_in_the_body_does_not_end_it_for_the_others(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, *halves(message(b"x" * 100_000, FRESH)), AGAIN))
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    (leader,) = await ask(sidecar, 1)
    await leader.until(lambda: len(leader.received) > 40_000)
    others = await ask(sidecar, 20)
    await all_in(sidecar, 21)
    leader.transport.abort()
    await all_in(sidecar, 20)
    origin.gate.set()
    assert {answer.body for answer in await responses(others)} == {b"x" * 100_000}
    assert len(origin.requests) == 1
    assert (await sidecar.get("/item")).get("cache-status") == b"sidecar; hit; ttl=59"


def halves(data: bytes) -> Script:
    middle = len(data) // 2
    return (data[:middle], GATE, data[middle:])


@pytest.mark.parametrize("when", ["before the answer", "in the body"])
async def test_when_all_have_left_the_upstream_is_let_go(
    start_origin: StartOrigin, start_sidecar: StartSidecar, when: str
) -> None:
    begun = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf"
    origin = await start_origin((READ, *([begun] if when == "in the body" else []), STALL))
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    clients = await ask(sidecar, 10)
    await all_in(sidecar, 10)
    if when == "in the body":
        await asyncio.gather(*(client.head() for client in clients))
    await origin.until(lambda origin: origin.requests)
    sidecar.hang_up()
    await origin.ended()
    await all_in(sidecar, 0)
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_cache_entries") == 0
    assert metrics.total("sidecar_circuit_calls_total", outcome="cancelled") == 1


# What cannot be shared


@pytest.mark.parametrize(
    "line",
    ["Cache-Control: no-store", "Cache-Control: private", "Cache-Control: max-age=0", "Vary: *", "Set-Cookie: a=b"],
)
async def test_when_the_answer_cannot_be_shared_all_fetch_at_once_and_in_parallel(
    start_origin: StartOrigin, start_sidecar: StartSidecar, line: str
) -> None:
    origin = await start_origin(
        (READ, GATE, message(b"mine", line), AGAIN), (READ, GATE, message(b"other", line), AGAIN)
    )
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    clients = await ask(sidecar, 20)
    await all_in(sidecar, 20)
    await origin.until(lambda origin: origin.requests)
    assert len(origin.requests) == 1
    origin.gate.set()
    answers = await responses(clients)
    assert [answer.status for answer in answers] == [200] * 20
    assert len(origin.requests) == 20
    # Remembered: from now on nobody waits for another.
    origin.gate.clear()
    more = await ask(sidecar, 20)
    await origin.until(lambda origin: len(origin.requests) == 40)
    origin.gate.set()
    await responses(more)


@pytest.mark.parametrize("ending", [RESET, CLOSE], ids=["reset", "closed"])
async def test_an_answer_cut_short_is_cut_for_everybody_and_leaves_no_trace(
    start_origin: StartOrigin, start_sidecar: StartSidecar, ending: Any
) -> None:
    begun = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf"
    origin = await start_origin((READ, begun, GATE, ending), (READ, message(b"whole", FRESH), AGAIN))
    sidecar = await start_sidecar(origin, upstream=SETTINGS)
    clients = await ask(sidecar, 20)
    await asyncio.gather(*(client.head() for client in clients))
    assert len(origin.requests) == 1
    origin.gate.set()
    assert all(await asyncio.gather(*(client.was_cut() for client in clients)))
    again = await sidecar.get("/item")
    assert (again.body, again.get("cache-status")) == (b"whole", b"sidecar; fwd=uri-miss; stored")


async def test_followers_of_other_variants_are_given_their_own(start_sidecar: StartSidecar) -> None:
    waiting: list[WireRequest] = []

    def answer(request: WireRequest) -> bytes | None:
        language = (request.get("accept-language") or b"none").decode()
        if not waiting:
            waiting.append(request)
            return None
        return message(language, FRESH, "Vary: Accept-Language")

    async with caching_origin(answer) as origin:
        sidecar = await start_sidecar(origin.url, upstream=SETTINGS)
        crowds = {"de": await ask(sidecar, 10, "Accept-Language: de")}
        await eventually(lambda: waiting)
        for language in ("en", "fr"):
            crowds[language] = await ask(sidecar, 10, f"Accept-Language: {language}")
        await all_in(sidecar, 30)
        assert len(origin.requests) == 1
        origin.say(message("de", FRESH, "Vary: Accept-Language"))
        for language, clients in crowds.items():
            assert {answer.body for answer in await responses(clients)} == {language.encode()}
        assert len(origin.requests) == 3


@pytest.mark.parametrize("line", ["Authorization: Basic %d", "Cookie: user=%d"])
async def test_nobody_is_given_anothers_page(start_sidecar: StartSidecar, line: str) -> None:
    name = line.partition(":")[0]

    def answer(request: WireRequest) -> bytes:
        return message(request.get(name) or b"nobody", "ETag: x")

    async with caching_origin(answer) as origin:
        sidecar = await start_sidecar(origin.url, upstream={**SETTINGS, "cache": {"ttl": "1m"}})
        clients = [(await ask(sidecar, 1, line % number))[0] for number in range(20)]
        bodies = [answer.body for answer in await responses(clients)]
        assert bodies == [(line % number).partition(": ")[2].encode() for number in range(20)]
        assert (await sidecar.get("/item")).body == b"nobody"


PERSONAL: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "the first has a cookie": ("Cookie: user=alice", "", ()),
    "the others have cookies": ("X-A: b", "Cookie: user=bob", ()),
    "a private failure": ("X-A: b", "", ("Cache-Control: private",)),
    "a failure that nobody may reuse": ("X-A: b", "", ("Cache-Control: no-store",)),
    "a failure that sets a cookie": ("X-A: b", "", ("Set-Cookie: user=alice",)),
    "a failure in another language": ("Accept-Language: de", "Accept-Language: en", ("Vary: Accept-Language",)),
    "a failure for nobody else": ("X-A: b", "", ("Vary: *",)),
}


@pytest.mark.parametrize(("first", "others", "lines"), PERSONAL.values(), ids=PERSONAL.keys())
async def test_nobody_is_given_anothers_failure(
    start_sidecar: StartSidecar, first: str, others: str, lines: tuple[str, ...]
) -> None:
    held: list[WireRequest] = []

    def answer(request: WireRequest) -> bytes | None:
        if not held:
            held.append(request)
            return None
        return message(b"yours", *lines, status=503)

    async with caching_origin(answer) as origin:
        sidecar = await start_sidecar(origin.url, upstream=SETTINGS)
        (leader,) = await ask(sidecar, 1, first)
        await eventually(lambda: held)
        followers = await ask(sidecar, 5, *([others] if others else []))
        await all_in(sidecar, 6)
        origin.say(message(b"mine", *lines, status=503))
        assert (await leader.response()).body == b"mine"
        assert [answer.body for answer in await responses(followers)] == [b"yours"] * 5


# Large answers and slow readers


async def test_a_follower_slower_than_its_leader_gets_all_of_it_and_holds_nobody_up(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    body = bytes(range(256)) * 4_000
    origin = await start_origin((READ, *halves(message(body, FRESH)), AGAIN))
    sidecar = await start_sidecar(origin, upstream={**SETTINGS, "cache": {"max_entry_size": "2MiB"}})
    slow, fast = await ask(sidecar, 2)
    await asyncio.gather(slow.head(), fast.head())
    slow.pause()
    origin.gate.set()
    assert (await fast.response()).body == body
    slow.resume()
    assert (await slow.response()).body == body
    assert len(origin.requests) == 1


LARGE = 100 * 1024 * 1024
PIECE = bytes(range(256)) * 1024
EXPECTED = zlib.crc32(PIECE * (LARGE // len(PIECE)))
MAY_GROW = 24 * 1024 * 1024


class Reader(asyncio.Protocol):
    """A client without chunked coding, which reads one response and keeps only a checksum of its body."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.begun: asyncio.Future[bytes] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._head = b""
        self._checksum = 0
        self._left = LARGE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"GET /item HTTP/1.0\r\nHost: a\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = head
            if not end:
                return
            self.begun.set_result(head)
        self._checksum = zlib.crc32(data, self._checksum)
        self._left -= len(data)
        if self._left <= 0 and not self.ended.done():
            self.ended.set_result(self._checksum)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("closed before the end"))


async def read(sidecar: Sidecar) -> Reader:
    address = sidecar.proxy
    assert not isinstance(address, str)
    _, reader = await asyncio.get_running_loop().create_connection(Reader, *address)
    return reader


async def test_a_large_answer_for_several_takes_bounded_memory(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar
) -> None:
    # Of unknown length, so that nobody can tell before the limit that it will not be stored.
    begin = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\n"
    origin = await start_origin((READ, OK, READ, begin, GATE, *[PIECE] * (LARGE // len(PIECE)), CLOSE))
    sidecar = await (await launch_sidecar(config_text(origin, upstream=SETTINGS))).ready()
    assert await sidecar.is_well()
    before = sidecar.rss()
    readers = [await read(sidecar) for _ in range(3)]
    heads = [await reader.begun for reader in readers]
    readers[0].transport.pause_reading()
    origin.gate.set()
    peak = before
    async with asyncio.timeout(30):
        while not all(reader.ended.done() for reader in readers):
            await asyncio.sleep(0.02)
            peak = max(peak, sidecar.rss())
            readers[0].transport.resume_reading()
    assert [reader.ended.result() for reader in readers] == [EXPECTED] * 3
    assert sum(b"collapsed" in head for head in heads) == 2
    assert len(origin.requests) == 2
    assert peak - before < MAY_GROW
    for reader in readers:
        reader.transport.abort()
    assert (await sidecar.metrics()).total("sidecar_cache_entries") == 0
