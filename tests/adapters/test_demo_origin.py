"""The demo's origin keeps to its schedule."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.demo_origin import DemoOrigin, Phase, Schedule

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpClient

PATIENCE = 20


@pytest.mark.parametrize(
    ("elapsed", "phase"),
    [
        pytest.param(0, Phase(fails=False, remaining=40), id="healthy at the start"),
        pytest.param(39.5, Phase(fails=False, remaining=0.5), id="healthy until the last moment"),
        pytest.param(40, Phase(fails=True, remaining=25), id="then failing"),
        pytest.param(64, Phase(fails=True, remaining=1), id="until the period is over"),
        pytest.param(65, Phase(fails=False, remaining=40), id="then healthy again"),
        pytest.param(650 + 50, Phase(fails=True, remaining=15), id="and so on"),
    ],
)
def test_the_schedule_repeats(elapsed: float, phase: Phase) -> None:
    assert Schedule(healthy=40, failing=25).phase(elapsed) == phase


async def test_answers_by_schedule_and_says_what_it_does(aiohttp_client: AiohttpClient) -> None:
    clock = [100.0]
    said: list[str] = []
    origin = DemoOrigin(Schedule(healthy=40, failing=25), lambda: clock[0], said.append)
    client = await aiohttp_client(origin.application())
    statuses = []
    for now in (100, 139, 140, 164, 165):
        clock[0] = now
        async with client.get("/items/1") as response:
            statuses.append(response.status)
            assert "Cache-Control" not in response.headers
    assert statuses == [200, 200, 503, 503, 200]
    assert said == ["demo origin: healthy for the next 40 s"]


async def test_runs_as_a_process_on_an_inherited_socket_until_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sidecar.adapters.demo_origin",
            "--listen",
            f"fd:{listener.fileno()}",
            pass_fds=[listener.fileno()],
            stdout=asyncio.subprocess.PIPE,
        )
        port = listener.getsockname()[1]
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /items/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        process.send_signal(signal.SIGTERM)
        said, _ = await process.communicate()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"path": "/items/1", "answer": 1}\n')
    assert said == b"demo origin: healthy for the next 40 s\n"
    assert process.returncode == 0
