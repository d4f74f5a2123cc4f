"""Attacks on a shared cache, through sockets: whatever one client sends, a second one gets the honest answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.caching_origin import caching_origin, message
from tests.support.still_sidecar import still_sidecar

if TYPE_CHECKING:
    from tests.support.messages import WireRequest
    from tests.support.still_sidecar import StillSidecar

FRESH = "Cache-Control: max-age=60"
VARY = "Vary: Accept-Language"
REFLECTED = (
    "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: http", "X-Forwarded-Scheme: http", "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil.test", "X-Host: evil.test", "X-Original-Host: evil.test",
    "X-Original-URL: /evil", "X-Rewrite-URL: /evil", "Forwarded: host=evil.test", "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "x-FORWARDED-hOsT: evil.test",
)  # fmt: skip
NAMES = {line.partition(":")[0].lower() for line in REFLECTED} | {"accept-language", "x-tenant"}
LONGEST_FIELDS = 6_000
"""Octets of fields that the naive application takes, less than the sidecar does."""


def naive(request: WireRequest) -> bytes:
    """An application that believes and repeats what it is told, and declares whatever it answers cacheable."""
    told = {
        "method": request.method,
        "target": request.target.decode("latin-1"),
        "fields": sorted((name, b", ".join(request.all(name))) for name in NAMES if name in request),
        "body": request.body.decode("latin-1"),
        "host": request.get("host"),
    }
    page = json.dumps(told, default=bytes.decode).encode()
    spans = request.get("range")
    if sum(map(len, sum(request.fields, ()))) > LONGEST_FIELDS or "if-match" in request:
        return message(b"bad request", FRESH, status=400)
    if request.method == "HEAD":
        return message(page, FRESH, VARY).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    if spans == b"bytes=0-3":
        return message(page[:4], FRESH, VARY, f"Content-Range: bytes 0-3/{len(page)}", status=206)
    if spans is not None:
        return message(b"no such range", FRESH, f"Content-Range: bytes */{len(page)}", status=416)
    if "if-none-match" in request or "if-modified-since" in request:
        return b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\n\r\n"
    return message(page, FRESH, VARY)


@dataclass(frozen=True, slots=True)
class Attack:
    """What the attacker sends, what the victim asks for, and what the route's cache is told."""

    sends: bytes
    victim: tuple[str, ...] = ("/item",)
    settings: dict[str, Any] = field(default_factory=dict)


def get(target: str = "/item", *lines: str, content: bytes = b"", method: str = "GET") -> bytes:
    hosts = [] if any(line.lower().startswith("host:") for line in lines) else ["Host: a"]
    length = [f"Content-Length: {len(content)}"] if content else []
    return "\r\n".join([f"{method} {target} HTTP/1.1", *hosts, *lines, *length, "", ""]).encode("latin-1") + content


HIDDEN = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN
ATTACKS: dict[str, Attack] = {
    **{line: Attack(get("/item", line)) for line in REFLECTED},
    "two of them": Attack(get("/item", "X-Forwarded-Host: a", "X-Forwarded-Host: evil.test")),
    # Fat GET
    "content of known length": Attack(get(content=b"evil")),
    "content of unknown length": Attack(get("/item", "Transfer-Encoding: chunked") + b"4\r\nevil\r\n0\r\n\r\n"),
    "empty chunked content": Attack(get("/item", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    # Methods
    "POST": Attack(get(content=b"evil", method="POST")),
    "HEAD": Attack(get(method="HEAD")),
    "OPTIONS": Attack(get(method="OPTIONS")),
    "an unknown method": Attack(get(method="EVIL")),
    "PURGE": Attack(get(method="PURGE")),
    "a method in another case": Attack(get(method="get")),
    # Targets that somebody might normalize
    **{
        target: Attack(get(target))
        for target in (
            "/ITEM", "/%69tem", "/item%20", "/item/", "/item?", "/item?evil", "/item;evil", "//item", "/./item",
            "/x/../item", "/x/..%2fitem", "/item%00", "/item%3f", "/item%23", "/item.", "/item\\", "/item?a=1&a=evil",
            "/%2e/item", "/%2e%2e/item", "/item//", "/item%0d%0a", "/item#evil",
        )
    },
    "upper-case escapes": Attack(get("/a%2Fb"), victim=("/a%2fb",)),
    "escaped and plain": Attack(get("/a%2Db"), victim=("/a-b",)),
    "a parameter hidden behind an ignored one": Attack(
        get("/item?utm=1;evil=1"), victim=("/item?utm=2",), settings={"query": {"exclude": ["utm"]}}
    ),
    "an ignored parameter in disguise": Attack(
        get("/item?%75tm=evil"), victim=("/item",), settings={"query": {"exclude": ["utm"]}}
    ),
    # Whose site it is
    "another Host": Attack(get("/item", "Host: evil.test")),
    "a Host with a port": Attack(get("/item", "Host: a:1")),
    "two Hosts": Attack(get("/item", "Host: a", "Host: evil.test")),
    "absolute form": Attack(get("http://evil.test/item")),
    "absolute form of another path": Attack(get("http://a/evil/../item")),
    "absolute form with user information": Attack(get("http://evil@a/item")),
    "an authority in the path": Attack(get("//evil.test/item")),
    "no slash": Attack(get("evil")),
    # Errors that the request itself provokes
    "more fields than the application takes": Attack(get("/item", *(f"X-{n}: {'x' * 100}" for n in range(70)))),
    "a field longer than the application takes": Attack(get("/item", f"X-Long: {'x' * 7_000}")),
    "a field longer than we take": Attack(get("/item", f"X-Long: {'x' * 70_000}")),
    "a control character": Attack(get("/item", "X-Meta: \x07")),
    "a failing precondition": Attack(get("/item", 'If-Match: "x"')),
    # Partial and conditional answers
    "a range": Attack(get("/item", "Range: bytes=0-3")),
    "a range beyond the end": Attack(get("/item", "Range: bytes=99999-")),
    "nonsense for a range": Attack(get("/item", "Range: evil")),
    "a range under a condition": Attack(get("/item", "Range: bytes=0-3", 'If-Range: "x"')),
    "a tag": Attack(get("/item", 'If-None-Match: "x"')),
    "a date": Attack(get("/item", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT")),
    # What a client can make disappear on the way
    "a selecting field that stops here": Attack(
        get("/item", "Accept-Language: de", "Connection: Accept-Language"), victim=("/item", "Accept-Language: de")
    ),
    "a keyed field that stops here": Attack(
        get("/item", "X-Tenant: one", "Connection: close, X-Tenant"),
        victim=("/item", "X-Tenant: one"),
        settings={"key_headers": ["x-tenant"]},
    ),
    "an upgrade": Attack(get("/item", "Connection: Upgrade", "Upgrade: evil")),
    # Two requests in one
    "length and chunked": Attack(get("/item", "Content-Length: 5", "Transfer-Encoding: chunked") + CHUNKED_HIDDEN),
    "chunked and length": Attack(get("/item", "Transfer-Encoding: chunked", "Content-Length: 5") + CHUNKED_HIDDEN),
    "two lengths": Attack(get("/item", f"Content-Length: {len(HIDDEN)}", "Content-Length: 0") + HIDDEN),
    "a signed length": Attack(get("/item", f"Content-Length: +{len(HIDDEN)}") + HIDDEN),
    "chunked in disguise": Attack(get("/item", "Transfer-Encoding: xchunked") + CHUNKED_HIDDEN),
    "chunked after a blank": Attack(get("/item", "Transfer-Encoding : chunked") + CHUNKED_HIDDEN),
    "chunked on a folded line": Attack(get("/item", "Transfer-Encoding:\r\n chunked") + CHUNKED_HIDDEN),
    "chunked twice": Attack(get("/item", "Transfer-Encoding: chunked, chunked") + CHUNKED_HIDDEN),
    "chunked to an old server": Attack(
        get("/item", "Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED_HIDDEN
    ),
    "a request within content": Attack(get(content=HIDDEN)),
    "a line break in a value": Attack(get("/item", "X-A: b\rX-Forwarded-Host: evil.test")),
    "a line break in the target": Attack(get("/item\r\nX-Forwarded-Host: evil.test\r\nX:")),
}  # fmt: skip


async def strike(sidecar: StillSidecar, octets: bytes) -> None:
    """Send it and wait until it is dealt with, however it ends."""
    attacker = await sidecar.connect()
    await attacker.send(octets)
    await attacker.until(lambda: attacker.ended or b"\r\n\r\n" in attacker.received)
    attacker.transport.abort()
    assert await sidecar.is_quiet()


def honest(target: str, fields: tuple[str, ...], host: bytes) -> dict[str, Any]:
    """What the application says to a client that wants nothing evil."""
    pairs = [line.partition(": ") for line in fields]
    told = sorted([name.lower(), value] for name, _, value in pairs)
    return {"method": "GET", "target": target, "fields": told, "body": "", "host": host.decode()}


@pytest.mark.parametrize("state", ["cold", "fresh", "stale"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_an_attack_is_without_effect_on_the_next_client(attack: Attack, state: str) -> None:
    target, *fields = attack.victim
    breaker = {"failure_threshold": None, "failure_rate": None}
    async with (
        caching_origin(naive) as origin,
        still_sidecar(origin.url, upstream={"cache": attack.settings, "breaker": breaker}) as sidecar,
    ):
        if state != "cold":
            await sidecar.get(target, *fields)
            sidecar.clock.advance(100 if state == "stale" else 0)
        for _ in range(2):
            # The second time its octets are known.
            await strike(sidecar, attack.sends)
        answer = await sidecar.get(target, *fields)
        assert answer.status == 200
        assert json.loads(answer.body) == honest(target, tuple(fields), origin.url.removeprefix("http://").encode())
        assert "GET /evil" not in origin.lines
        # And once more, from the store.
        again = await sidecar.get(target, *fields)
        assert (again.body, again.get("cache-status")) == (answer.body, b"sidecar; hit; ttl=60")


async def test_where_the_application_learns_the_clients_host_it_is_in_the_key() -> None:
    async with (
        caching_origin(naive) as origin,
        still_sidecar(origin.url, upstream={"cache": {}, "preserve_host": True}) as sidecar,
    ):
        await strike(sidecar, get("/item", "Host: evil.test"))
        assert json.loads((await sidecar.get("/item")).body)["host"] == "a"
        await strike(sidecar, get("http://evil.test/item", "Host: a"))
        assert json.loads((await sidecar.get("/item")).body)["host"] == "a"


@pytest.mark.parametrize("mode", ["forwarded", "x-forwarded", "both"])
async def test_where_the_application_is_told_the_clients_host_it_is_in_the_key(mode: str) -> None:
    async with (
        caching_origin(naive) as origin,
        still_sidecar(origin.url, upstream={"cache": {}}, proxy={"forwarded": mode}) as sidecar,
    ):
        await strike(sidecar, get("/item", "Host: evil.test"))
        assert b"evil" not in (await sidecar.get("/item")).body


@pytest.mark.parametrize("status", [400, 403, 405, 413, 414, 431, 500, 501, 502, 503])
async def test_an_error_that_one_client_provokes_does_not_replace_a_good_answer(status: int) -> None:
    def answer(request: WireRequest) -> bytes:
        long = sum(len(value) for _, value in request.fields) > LONGEST_FIELDS
        return message(b"no", FRESH, status=status) if long else message(b"good", FRESH)

    async with caching_origin(answer) as origin, still_sidecar(origin.url, upstream={"cache": {}}) as sidecar:
        await sidecar.get("/item")
        sidecar.clock.advance(100)
        await strike(sidecar, get("/item", f"X-Long: {'x' * 7_000}"))
        assert (await sidecar.get("/item")).body == b"good"
