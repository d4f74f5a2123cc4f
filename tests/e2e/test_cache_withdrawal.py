"""What was withdrawn does not come back when the upstream fails, through real sockets (cache.md 11)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.caching_origin import caching_origin, message
from tests.support.origin import AGAIN, GATE, READ
from tests.support.still_sidecar import still_sidecar
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StartOrigin
    from tests.support.caching_origin import CachingOrigin
    from tests.support.messages import WireResponse
    from tests.support.still_sidecar import StillSidecar

NO_TRIPS = {"failure_threshold": None, "failure_rate": None}
GOOD = message(b"good", "Cache-Control: max-age=60", 'ETag: "v1"')
MODES = {
    "standard": {},
    "without collapsing": {"collapse": False},
    "fallback": {"mode": "fallback"},
    "background refresh": {"background_refresh": True},
}


@asynccontextmanager
async def shop(**cache: Any) -> AsyncIterator[tuple[CachingOrigin, StillSidecar]]:
    async with (
        caching_origin(lambda _: GOOD) as origin,
        still_sidecar(origin.url, upstream={"cache": cache, "breaker": NO_TRIPS}) as sidecar,
    ):
        yield origin, sidecar


async def when_it_fails(origin: CachingOrigin, sidecar: StillSidecar, *lines: str) -> WireResponse:
    """What a client gets once the upstream is broken and whatever is stored is stale."""
    sidecar.clock.advance(100)
    origin.answer = lambda _: message(b"", status=503)
    return await sidecar.get("/item", *lines)


def assert_stands_in(response: WireResponse) -> None:
    assert (response.status, response.body) == (200, b"good")
    assert b"; hit; ttl=-" in (response.get("cache-status") or b"")


def assert_withdrawn(response: WireResponse) -> None:
    assert (response.status, response.body) == (503, b"")
    assert b"hit" not in (response.get("cache-status") or b"")


ANSWERS: dict[str, tuple[bytes, bool]] = {
    # What the upstream answers after the good answer, and whether that withdraws it.
    **{str(status): (message(b"", status=status), True) for status in (301, 302, 307, 308, 401, 403, 404, 405, 410)},
    "451": (message(b"", status=451), True),
    "400": (message(b"", status=400), True),
    "a stored 410": (message(b"gone", "Cache-Control: max-age=9", status=410), True),
    "a chunked 404": (b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", True),
    "no-store": (message(b"", "Cache-Control: no-store"), True),
    "private": (message(b"", "Cache-Control: private"), True),
    "Vary: *": (message(b"", "Cache-Control: max-age=9", "Vary: *"), True),
    "Set-Cookie": (message(b"", "Cache-Control: max-age=9", "Set-Cookie: a=b"), True),
    "too large": (message(b"x" * 2000, "Cache-Control: max-age=9"), True),
    "too large, as it turns out": (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3e8\r\n" + b"x" * 1000 + b"\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n",
        True,
    ),
    "a 304 with private": (b'HTTP/1.1 304 No\r\nETag: "v1"\r\nCache-Control: private\r\n\r\n', True),
    **{str(status): (message(b"", status=status), False) for status in (408, 425, 429, 500, 501, 503)},
    "a 429 with a lifetime": (message(b"", "Cache-Control: max-age=9", status=429), False),
    "a 304": (b'HTTP/1.1 304 No\r\nETag: "v1"\r\n\r\n', False),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize(("answer", "gone"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_what_an_answer_withdraws_does_not_stand_in(mode: dict[str, Any], answer: bytes, *, gone: bool) -> None:
    async with shop(max_entry_size=1500, **mode) as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: answer
        await sidecar.get("/item")
        # A refresh behind a stale answer goes on alone.
        await eventually(lambda: len(origin.requests) == 2)
        assert await sidecar.is_quiet()
        response = await when_it_fails(origin, sidecar)
    if gone:
        # What took its place may stand in, where the route lets it be stored.
        assert response.body != b"good"
    else:
        assert_stands_in(response)


REQUESTS: dict[str, tuple[str, tuple[str, ...], bytes, bool]] = {
    # Method, fields and answer of the request in between, and whether it withdraws what others may use.
    "403 with Authorization": ("GET", ("Authorization: x",), message(b"", status=403), False),
    "401 with Authorization": ("GET", ("Authorization: x",), message(b"", status=401), False),
    "403 with a cookie": ("GET", ("Cookie: a=b",), message(b"", status=403), False),
    "a 403 to be stored, with a cookie": (
        "GET", ("Cookie: a=b",), message(b"", "Cache-Control: public, max-age=9", status=403), False,
    ),
    "404 with Authorization": ("GET", ("Authorization: x",), message(b"", status=404), True),
    "private, with Authorization": ("GET", ("Authorization: x",), message(b"", "Cache-Control: private"), False),
    "private, with a cookie": ("GET", ("Cookie: a=b",), message(b"", "Cache-Control: private"), True),
    "404, by who wants nothing stored": ("GET", ("Cache-Control: no-store",), message(b"", status=404), True),
    "private, by who wants nothing stored": (
        "GET", ("Cache-Control: no-store",), message(b"", "Cache-Control: private"), True,
    ),
    "a good answer, by who wants nothing stored": ("GET", ("Cache-Control: no-store",), GOOD, False),
    "404, by who wants no stored answer": ("GET", ("Cache-Control: no-cache",), message(b"", status=404), True),
    "404 to an unkeyed field": ("GET", ("X-Forwarded-Host: evil",), message(b"", status=404), False),
    "a precondition for the origin fails": ("GET", ('If-Match: "v0"',), message(b"", status=412), False),
    "410, with a precondition for the origin": ("GET", ('If-Match: "v0"',), message(b"", status=410), True),
    "404 to a range": ("GET", ("Range: bytes=0-1",), message(b"", status=404), True),
    "404 to a HEAD": ("HEAD", (), b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", False),
    "405 to a HEAD": ("HEAD", (), b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", False),
    "404 to a POST": ("POST", ("Content-Length: 0",), message(b"", status=404), False),
}  # fmt: skip


@pytest.mark.parametrize(("method", "lines", "answer", "gone"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_whose_answer_withdraws_what_others_may_use(
    method: str, lines: tuple[str, ...], answer: bytes, *, gone: bool
) -> None:
    async with shop() as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: answer
        head = "\r\n".join([f"{method} /item HTTP/1.1", "Host: a", *lines])
        await sidecar.exchange(head.encode() + b"\r\n\r\n", method)
        assert len(origin.requests) == 2
        response = await when_it_fails(origin, sidecar)
    assert_withdrawn(response) if gone else assert_stands_in(response)


@pytest.mark.parametrize(
    ("vary", "others_stand_in"), [("", False), ("Vary: Accept-Language", True), ("Vary: Accept-Encoding", False)]
)
async def test_an_answer_speaks_for_the_variants_that_its_own_vary_does_not_exclude(
    vary: str, *, others_stand_in: bool
) -> None:
    async with shop() as (origin, sidecar):
        origin.answer = lambda _: message(b"good", "Cache-Control: max-age=60", "Vary: Accept-Language")
        for language in ("de", "en"):
            await sidecar.get("/item", f"Accept-Language: {language}")
        sidecar.clock.advance(100)
        origin.answer = lambda _: message(b"", *filter(None, [vary]), status=410)
        assert (await sidecar.get("/item", "Accept-Language: de")).status == 410
        german = await when_it_fails(origin, sidecar, "Accept-Language: de")
        english = await when_it_fails(origin, sidecar, "Accept-Language: en")
    assert_withdrawn(german)
    assert_stands_in(english) if others_stand_in else assert_withdrawn(english)


async def test_a_good_answer_takes_the_place_of_a_variant_that_its_request_could_have_had() -> None:
    async with shop() as (origin, sidecar):
        origin.answer = lambda _: message(b"old", "Cache-Control: max-age=60", "Vary: Accept-Language")
        await sidecar.get("/item", "Accept-Language: de")
        sidecar.clock.advance(100)
        origin.answer = lambda _: GOOD
        await sidecar.get("/item", "Accept-Language: de")
        assert_stands_in(await when_it_fails(origin, sidecar, "Accept-Language: de"))


async def test_what_still_arrives_when_it_is_withdrawn_is_not_stored(start_origin: StartOrigin) -> None:
    half = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n"
    origin = await start_origin((READ, half, GATE, b"2\r\nod\r\n0\r\n\r\n", AGAIN))
    async with still_sidecar(origin, upstream={"cache": {"collapse": False}, "breaker": NO_TRIPS}) as sidecar:
        slow = await sidecar.connect()
        await slow.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        await slow.until(lambda: b"go" in slow.received)
        origin.then((READ, message(b"", status=410), AGAIN))
        assert (await sidecar.get("/item")).status == 410
        origin.gate.set()
        assert (await slow.response()).body == b"good"
        assert (await sidecar.get("/item", "Cache-Control: only-if-cached")).status == 504


async def test_everyone_of_a_crowd_learns_that_it_is_withdrawn() -> None:
    async with shop() as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: None
        clients = [await sidecar.connect() for _ in range(5)]
        for client in clients:
            await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: len(origin.requests) == 2)
        origin.answer = lambda _: message(b"", status=410)
        origin.say(message(b"", status=410))
        assert [(await client.response()).status for client in clients] == [410] * 5
        assert_withdrawn(await when_it_fails(origin, sidecar))


# A cookie that comes with a 304


@pytest.mark.parametrize("mode", ["standard", "fallback"])
@pytest.mark.parametrize(
    ("lines", "method", "status"),
    [((), "GET", 200), (('If-None-Match: "v1"',), "GET", 304), (("Range: bytes=0-1",), "GET", 206)],
    ids=["the whole", "a 304 of its own", "a range"],
)
async def test_a_cookie_on_a_304_is_for_who_asked(mode: str, lines: tuple[str, ...], method: str, status: int) -> None:
    async with shop(mode=mode) as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: b'HTTP/1.1 304 No\r\nETag: "v1"\r\nSet-Cookie: a=1\r\nset-cookie: b=2; Path=/\r\n\r\n'
        head = "\r\n".join([f"{method} /item HTTP/1.1", "Host: a", *lines])
        first = await sidecar.exchange(head.encode() + b"\r\n\r\n", method)
        origin.answer = lambda _: GOOD.replace(b"good", b"next")
        hit = await sidecar.get("/item")
        stale = await when_it_fails(origin, sidecar)
    assert first.status == status
    assert first.all("set-cookie") == [b"a=1", b"b=2; Path=/"]
    assert "set-cookie" not in hit
    assert "set-cookie" not in stale
    assert hit.body == (b"good" if mode == "standard" else b"next")
    assert stale.body == hit.body


async def test_a_cookie_on_a_304_is_not_for_those_who_share_the_fetch() -> None:
    async with shop() as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: None
        clients = [await sidecar.connect() for _ in range(5)]
        for client in clients:
            await client.send(b"GET /item HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: len(origin.requests) == 2)
        origin.say(b'HTTP/1.1 304 No\r\nETag: "v1"\r\nSet-Cookie: a=1\r\n\r\n')
        answers = [await client.response() for client in clients]
    assert [answer.body for answer in answers] == [b"good"] * 5
    assert sorted(answer.get("set-cookie") or b"" for answer in answers) == [b"", b"", b"", b"", b"a=1"]


async def test_a_cookie_on_a_304_behind_a_stale_answer_is_for_nobody() -> None:
    async with shop(background_refresh=True) as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        origin.answer = lambda _: b'HTTP/1.1 304 No\r\nETag: "v1"\r\nSet-Cookie: a=1\r\n\r\n'
        stale = await sidecar.get("/item")
        await eventually(lambda: len(origin.requests) == 2)
        assert await sidecar.is_quiet()
        fresh = await sidecar.get("/item")
    assert len(origin.requests) == 2
    assert (fresh.body, fresh.get("age")) == (b"good", b"0")
    assert "set-cookie" not in stale
    assert "set-cookie" not in fresh


async def test_fields_that_a_304_marks_as_private_are_for_who_asked() -> None:
    async with shop() as (origin, sidecar):
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        lines = (b'ETag: "v1"', b"X-User: alice", b"X-All: y", b'Cache-Control: max-age=60, private="x-user"')
        origin.answer = lambda _: b"HTTP/1.1 304 No\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        first, second = await sidecar.get("/item"), await sidecar.get("/item")
    assert (first.get("x-user"), first.get("x-all")) == (b"alice", b"y")
    assert ("x-user" in second, second.get("x-all"), len(origin.requests)) == (False, b"y", 2)
