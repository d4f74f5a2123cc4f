"""What a request leaves behind is freed when it is over, without the garbage collector.

Content hangs on requests, answers and errors: were they to hold each other, megabytes would wait for a collection.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.server.exchange import Exchange
from sidecar.adapters.upstream.response import ResponseReader
from tests.support.garbage import collected
from tests.support.origin import AGAIN, CLOSE, OK, READ, RESET, STALL, WELL_BEHAVED, Script
from tests.support.wire import turns

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.running import InProcess

LARGE = 600_000
GET = b"GET /thing HTTP/1.1\r\nHost: a\r\n\r\n"
STEP = b"GET /thing HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM abc\r\n\r\n"
ASKED = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 3\r\n\r\nwho"
TRACED = tuple(b"%bTraceparent: %d\r\n\r\n" % (GET[:-2], number) for number in range(8))
POST = b"POST /thing HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE
UPLOAD = b"POST /thing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD_OF_LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STALE_AT_ONCE = b'HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nETag: "a"\r\nContent-Length: 3\r\n\r\nabc'
STALE_MEANWHILE = STALE_AT_ONCE.replace(b"max-age=0", b"max-age=0, stale-while-revalidate=60")
HEAD_OF_STORED = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n"
CACHED = {"cache": {"mode": "standard", "max_entry_size": "1MiB", "stale_ttl": "60s"}}
FORCED_OPEN = {"mode": "forced_open", "reason": "test", "actor": "test"}


@dataclass(frozen=True)
class Case:
    """What the origin does on each connection, and what each of a few clients sends."""

    scripts: tuple[Script, ...]
    requests: tuple[bytes, ...] = (GET, GET, GET)
    leaves: bool = False
    """The clients leave once the origin has heard of them."""
    resets: bool = False
    """And that abruptly."""
    upstream: dict[str, Any] = field(default_factory=dict)
    forced_open: bool = False
    anew: bool = False
    """What is stored is forgotten before the look at what is left."""


CASES = {
    "an answer in one read": Case((WELL_BEHAVED,)),
    "an answer in many reads": Case(((READ, HEAD_OF_LARGE, b"x" * LARGE, AGAIN),)),
    "an answer in chunks": Case(((READ, CHUNKED, b"3\r\nabc\r\n", b"0\r\n\r\n", AGAIN),)),
    "an answer in chunks, and then the end": Case(((READ, CHUNKED, b"3\r\nabc\r\n", b"0\r\n\r\n", CLOSE),)),
    "an answer that ends with its connection": Case(((READ, b"HTTP/1.1 200 OK\r\n\r\nabc", CLOSE),)),
    "an interim answer": Case(((READ, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", OK, AGAIN),)),
    "content in many reads": Case((WELL_BEHAVED,), (POST + b"x" * LARGE,) * 2),
    "content in chunks": Case((WELL_BEHAVED,), (UPLOAD + b"3\r\nabc\r\n0\r\n\r\n",) * 2),
    "an answer that is cut": Case(((READ, HEAD_OF_LARGE, b"x" * 1000, RESET),), (GET,)),
    "an answer that is cut while it is shared": Case(
        ((READ, HEAD_OF_STORED % LARGE, b"x" * 1000, RESET),), (GET,), upstream=CACHED
    ),
    "an answer that is nonsense": Case(((READ, b"nonsense\r\n\r\n", CLOSE),)),
    "a connection that authenticates": Case(((READ, ASKED, READ, ASKED, READ, CLOSE), (READ, ASKED, AGAIN))),
    "a client that leaves while it authenticates": Case(((READ, STALL),), (STEP,), leaves=True),
    "a connection that had died": Case(((READ, OK, READ, CLOSE), WELL_BEHAVED)),
    "a client that leaves before the answer": Case(((READ, STALL),), (GET,), leaves=True),
    "a client that leaves during the answer": Case(((READ, HEAD_OF_LARGE, b"x", STALL),), (GET,), leaves=True),
    "a client that leaves during its request": Case(((STALL,),), (POST + b"x",), leaves=True),
    "a client that resets during its request": Case(((STALL,),), (POST + b"x",), leaves=True, resets=True),
    "an answer that is stored": Case(((READ, HEAD_OF_STORED % 3, b"abc", AGAIN),), upstream=CACHED, anew=True),
    "an answer that is stored from many reads": Case(
        ((READ, HEAD_OF_STORED % LARGE, b"x" * LARGE, AGAIN),), upstream=CACHED, anew=True
    ),
    "the same from memory": Case(((READ, HEAD_OF_STORED % 3, b"abc", AGAIN),), (GET,) * 8, upstream=CACHED, anew=True),
    "the same to requests with traces": Case(
        ((READ, HEAD_OF_STORED % 3, b"abc", AGAIN),), TRACED, upstream=CACHED, anew=True
    ),
    "a miss that is not stored": Case((WELL_BEHAVED,), upstream=CACHED),
    "a stale answer in the place of a failure": Case(((READ, STALE_AT_ONCE, CLOSE), (READ, RESET)), upstream=CACHED),
    "a refresh in the background that fails": Case(((READ, STALE_MEANWHILE, CLOSE), (READ, RESET)), upstream=CACHED),
    "an open circuit": Case((WELL_BEHAVED,), forced_open=True),
    "an open circuit behind a cache": Case((WELL_BEHAVED,), upstream=CACHED, forced_open=True),
    "an open circuit, and content": Case((WELL_BEHAVED,), (UPLOAD + b"3\r\nabc\r\n0\r\n\r\n",), forced_open=True),
    "a malformed request": Case((WELL_BEHAVED,), (b"GET /\r\n\r\n",)),
}


async def _ask(sidecar: InProcess, case: Case) -> None:
    """Every request on one connection while it lasts, and then on another."""
    client = await sidecar.connect()
    for request in case.requests:
        await client.send(request)
        if case.leaves:
            await turns(20)
            if case.resets:
                client.reset()
                await turns(20)
            break
        with suppress(AssertionError):  # where the answer is cut
            await client.response()
        if client.ended:
            client = await sidecar.connect()
    sidecar.hang_up()
    sidecar.clients.clear()
    assert await sidecar.is_quiet()
    await turns(20)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_request_leaves_nothing_to_the_garbage_collector(
    case: Case, start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(await start_origin(*case.scripts), upstream=case.upstream)
    if case.forced_open:
        await sidecar.api("PUT", "/v1/circuits/all/override", FORCED_OPEN)
    await _ask(sidecar, case)
    if case.anew:
        await sidecar.api("DELETE", "/v1/cache?route=all")

    with collected() as garbage:
        await _ask(sidecar, case)

    assert not garbage


UNREACHABLE: dict[str, dict[str, Any]] = {
    "nobody listens": {"url": "http://127.0.0.1:9"},
    "nobody listens, behind a cache": {"url": "http://127.0.0.1:9", **CACHED},
    "no socket file": {"url": "unix:/nowhere/there.sock"},
    "no TLS": {"url": "https://{origin}"},
    "no TLS in time": {"url": "https://{silent}", "timeouts": {"connect": "50ms"}},
}


@pytest.mark.parametrize("upstream", UNREACHABLE.values(), ids=UNREACHABLE.keys())
async def test_an_upstream_that_cannot_be_reached_leaves_nothing_either(
    upstream: dict[str, Any], start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin, silent = await start_origin((READ, b"nonsense", CLOSE)), await start_origin((READ, STALL))
    url = upstream["url"].format(origin=f"127.0.0.1:{origin.port}", silent=f"127.0.0.1:{silent.port}")
    sidecar = await start_sidecar(origin, upstream={**upstream, "url": url})
    case = Case(())
    await _ask(sidecar, case)

    with collected() as garbage:
        await _ask(sidecar, case)

    assert not garbage


async def test_connections_at_rest_hold_nothing_of_their_last_exchange(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar(await start_origin(WELL_BEHAVED))
    client = await sidecar.connect()
    await client.exchange(UPLOAD + b"3\r\nabc\r\n0\r\n\r\n")
    await turns(20)

    gc.collect()
    alive = gc.get_objects()
    assert not [each for each in alive if isinstance(each, Exchange)]
    readers = [each for each in alive if isinstance(each, ResponseReader)]
    assert [reader.pieces for reader in readers] == [[]]
