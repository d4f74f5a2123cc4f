"""Start, readiness, drain and exit codes of the real process (contract.md §1)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ, STALL
from tests.support.running import SidecarProcess, config_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import LaunchSidecar, StartOrigin


async def test_says_where_it_listens_and_is_ready(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin()
    sidecar = await (await launch_sidecar(config_text(origin))).ready()

    assert await sidecar.is_well()
    for path in ("/livez", "/readyz", "/startupz"):
        await sidecar._ask("telemetry", "GET", path)


async def test_sigterm_lets_requests_in_flight_finish(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    client, idle = await sidecar.connect(), await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    sidecar.terminate()
    assert await idle.has_closed(), "an idle connection has nothing to wait for"
    origin.gate.set()

    response = await client.response()
    assert (response.status, response.body) == (200, b"ok")
    assert response.get("connection") == b"close"
    assert await client.has_closed()
    assert await sidecar.exit_code() == 0
    assert "Traceback" not in sidecar.output


async def test_a_second_signal_ends_at_once(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    client, idle = await sidecar.connect(), await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    sidecar.terminate()
    await idle.has_closed()
    sidecar.terminate()

    await sidecar.exit_code()
    await client.until(lambda: client.ended)
    assert client.received == b""
    assert "Traceback" not in sidecar.output


async def test_the_drain_is_bounded(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await (await launch_sidecar(config_text(origin, proxy={"drain_timeout": "300ms"}))).ready()
    client = await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    sidecar.terminate()

    await sidecar.exit_code()
    assert "Traceback" not in sidecar.output


async def test_an_idle_sidecar_ends_at_once(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin()
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    assert await sidecar.is_well()

    sidecar.terminate()

    assert await sidecar.exit_code() == 0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("listener", ["proxy", "admin", "telemetry"])
async def test_a_port_in_use_is_said_plainly(launch_sidecar: LaunchSidecar, taken: int, listener: str) -> None:
    listen = {"listen": f"127.0.0.1:{taken}"}
    text = config_text(
        "http://127.0.0.1:9", **({"proxy": listen} if listener == "proxy" else {"top": {listener: listen}})
    )
    sidecar = await launch_sidecar(text)

    assert await sidecar.exit_code() == 1
    assert str(taken) in sidecar.output
    assert "Traceback" not in sidecar.output


async def test_signals_while_the_configuration_is_read_do_not_kill(start_origin: StartOrigin, tmp_path: Path) -> None:
    """A SIGHUP then tells of a file that was changed after it was read, so it is kept."""
    file, next_file = tmp_path / "sidecar.yaml", tmp_path / "next.yaml"
    os.mkfifo(file)
    origin = await start_origin()
    sidecar = await SidecarProcess.launch(file)
    try:
        with await asyncio.to_thread(file.open, "w") as reading:
            next_file.write_text(config_text(origin, route={"match": {"prefix": "/next/"}}))
            next_file.rename(file)
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                sidecar.process.send_signal(number)
            reading.write(config_text(origin))

        await (await sidecar.ready()).printed("was loaded: 1 route changed")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            sidecar.process.send_signal(number)
        assert (await sidecar.get("/next/")).status == 200
        sidecar.terminate()
        assert await sidecar.exit_code() == 0
    finally:
        await sidecar.stop()


BAD_CONFIGS = {
    "unknown-key": ('upstreams: {a: {url: "http://127.0.0.1:9"}}\nproxi: {}\n', "proxi"),
    "no-upstream": ("proxy: {}\n", "upstreams"),
    "bad-yaml": ("upstreams: {a: [\n", "2:1"),
    "bad-duration": ('upstreams: {a: {url: "http://h", timeouts: {connect: soon}}}\n', "soon"),
    "bad-url": ("upstreams: {a: {url: 17}}\n", "17"),
    "later-feature": ('upstreams: {a: {url: "http://h", bulkhead: {max_queue: 2}}}\n', "bulkhead"),
    "empty": ("", "upstreams"),
}


@pytest.mark.parametrize(("text", "names"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
async def test_a_bad_configuration_is_said_plainly(launch_sidecar: LaunchSidecar, text: str, names: str) -> None:
    sidecar = await launch_sidecar(text)

    assert await sidecar.exit_code() == 64
    assert "error" in sidecar.output
    assert names in sidecar.output
    assert "Traceback" not in sidecar.output


async def test_a_host_that_does_not_resolve_fails_its_requests_only(launch_sidecar: LaunchSidecar) -> None:
    sidecar = await (await launch_sidecar(config_text("http://nowhere.invalid:80"))).ready()

    response = await sidecar.get()

    assert response.status == 502
    assert response.get("proxy-status") == b"sidecar; error=dns_error"
    sidecar.terminate()
    assert await sidecar.exit_code() == 0
    assert "Traceback" not in sidecar.output
