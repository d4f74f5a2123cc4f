"""The rehearsal's origin does as it is told, and counts what comes."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING

from sidecar.adapters.demo_bottleneck import ATTEMPT_FIELD, WORKERS, Bottleneck
from sidecar.core import retry

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpClient

PATIENCE = 20


def test_it_knows_a_repeated_request_by_the_sidecars_own_field() -> None:
    assert ATTEMPT_FIELD.encode() == retry.ATTEMPT_FIELD


async def test_faltering_it_fails_every_second_request(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(Bottleneck().application())
    assert {(await client.get("/a")).status for _ in range(4)} == {200}
    assert (await client.put("/_mode/faltering")).status == 204
    assert sorted([(await client.get("/a")).status for _ in range(4)]) == [200, 200, 503, 503]


async def test_slow_it_answers_nobody_until_it_is_healthy_again(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(Bottleneck().application())
    await client.put("/_mode/slow")
    asked = [asyncio.ensure_future(client.get("/a")) for _ in range(WORKERS + 5)]
    async with asyncio.timeout(PATIENCE):
        while (await (await client.get("/_counts")).json())["first"] < len(asked):
            pass
        assert not any(one.done() for one in asked)
        await client.put("/_mode/healthy")
        assert {one.status for one in await asyncio.gather(*asked)} == {200}


async def test_it_counts_repeated_requests_apart(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(Bottleneck().application())
    await client.get("/a")
    await client.get("/a", headers={ATTEMPT_FIELD: "2"})
    assert await (await client.get("/_counts")).json() == {"first": 1, "repeated": 1}
    assert (await client.put("/_mode/odd")).status == 404


async def test_it_serves_an_inherited_socket_until_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "sidecar.adapters.demo_bottleneck", "--listen", f"fd:{listener.fileno()}"]
        process = await asyncio.create_subprocess_exec(*command, pass_fds=[listener.fileno()])
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"done\n")
            writer.close()
            await writer.wait_closed()
            process.terminate()
            assert await process.wait() == 0
