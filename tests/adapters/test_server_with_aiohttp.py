"""Well-behaved peers: a real aiohttp client and a real aiohttp origin notice nothing of what is between them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_aiohttp import AiohttpServer

    from tests.conftest import StartSidecar

PIECE = bytes(range(256)) * 64
PIECES = 100


async def digest(request: web.Request) -> web.Response:
    """What the request's body was."""
    body = await request.read()
    return web.json_response({"size": len(body), "sha256": hashlib.sha256(body).hexdigest(), "method": request.method})


async def form(request: web.Request) -> web.Response:
    fields = await request.post()
    return web.json_response({name: value if isinstance(value, str) else "file" for name, value in fields.items()})


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(PIECES):
        await response.write(PIECE)
    await response.write_eof()
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events: each waits until the client has seen the one before."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(f"data: {number}\n\n".encode())
        await request.app[SEEN].wait()
        request.app[SEEN].clear()
    return response


async def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/digest"})


async def cookies(request: web.Request) -> web.Response:
    response = web.Response(text=",".join(f"{name}={value}" for name, value in request.cookies.items()))
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", path="/cookies")
    return response


async def compressed(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"hello" * 1000), headers={"Content-Encoding": "gzip"})


SEEN = web.AppKey("seen", asyncio.Event)


@pytest.fixture
async def application() -> web.Application:
    application = web.Application(client_max_size=1 << 30)
    application[SEEN] = asyncio.Event()
    for path, handler in {"/form": form, "/stream": stream, "/events": events, "/redirect": redirect}.items():
        application.router.add_route("*", path, handler)
    application.router.add_route("*", "/digest", digest)
    application.router.add_get("/cookies", cookies)
    application.router.add_get("/compressed", compressed)
    return application


@pytest.fixture
async def session(
    application: web.Application, aiohttp_server: AiohttpServer, start_sidecar: StartSidecar
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose every request goes through the sidecar to the application."""
    server = await aiohttp_server(application)
    sidecar = await start_sidecar(f"http://127.0.0.1:{server.port}")
    assert isinstance(sidecar.proxy, tuple)
    async with aiohttp.ClientSession(f"http://{sidecar.proxy[0]}:{sidecar.proxy[1]}") as session:
        yield session


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_carries_its_body(session: aiohttp.ClientSession, method: str) -> None:
    async with session.request(method, "/digest", data=b"hello") as response:
        seen = await response.json()

    assert (seen["method"], seen["size"]) == (method, 5)
    assert seen["sha256"] == hashlib.sha256(b"hello").hexdigest()


async def test_a_streamed_upload_arrives_whole(session: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    async with session.post("/digest", data=pieces()) as response:
        seen = await response.json()

    assert seen["sha256"] == hashlib.sha256(PIECE * PIECES).hexdigest()


async def test_an_upload_that_waits_for_100_continue_arrives_whole(session: aiohttp.ClientSession) -> None:
    async with session.post("/digest", data=PIECE, expect100=True) as response:
        seen = await response.json()

    assert seen["sha256"] == hashlib.sha256(PIECE).hexdigest()


async def test_a_multipart_form_arrives_whole(session: aiohttp.ClientSession) -> None:
    data = aiohttp.FormData({"name": "value"})
    data.add_field("upload", PIECE, filename="a.bin")

    async with session.post("/form", data=data) as response:
        assert await response.json() == {"name": "value", "upload": "file"}


async def test_a_streamed_download_arrives_whole(session: aiohttp.ClientSession) -> None:
    async with session.get("/stream") as response:
        assert await response.read() == PIECE * PIECES


async def test_server_sent_events_arrive_one_by_one(
    session: aiohttp.ClientSession, application: web.Application
) -> None:
    async with session.get("/events") as response:
        for number in range(3):
            assert await response.content.readuntil(b"\n\n") == f"data: {number}\n\n".encode()
            application[SEEN].set()
        assert await response.read() == b""


async def test_redirects_and_cookies_work(session: aiohttp.ClientSession) -> None:
    async with session.get("/redirect") as response:
        assert (response.status, response.url.path) == (200, "/digest")
    async with session.get("/cookies") as response:
        assert {cookie.key: cookie.value for cookie in response.cookies.values()} == {"a": "1", "b": "2"}


async def test_compressed_content_passes_as_it_is(session: aiohttp.ClientSession) -> None:
    async with session.get("/compressed") as response:
        assert await response.read() == b"hello" * 1000


async def test_200_concurrent_requests_get_their_own_answers(session: aiohttp.ClientSession) -> None:
    async def one(number: int) -> bool:
        body = b"%d" % number * 1000
        async with session.post("/digest", data=body) as response:
            seen = await response.json()
        return bool(seen["sha256"] == hashlib.sha256(body).hexdigest())

    assert all(await asyncio.gather(*(one(number) for number in range(200))))


async def test_a_client_that_stops_reading_in_the_middle_leaves_nothing_behind(session: aiohttp.ClientSession) -> None:
    async with session.get("/stream") as response:
        await response.content.readexactly(100)
        response.close()

    async with session.get("/digest") as response:
        assert response.status == 200
