"""Start, readiness, drain and exit codes of the real process (contract.md §1)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ, STALL
from tests.support.running import SidecarProcess, config_text
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    assert await sidecar.exit_code() == 1
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

    assert await sidecar.exit_code() == 1
    assert "Traceback" not in sidecar.output


async def test_who_connects_during_the_drain_is_served(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar
) -> None:
    """An application that drains needs its sidecar."""
    origin = await start_origin((READ, GATE, OK, AGAIN), (READ, OK, AGAIN))
    sidecar = await (await launch_sidecar(config_text(origin))).ready()
    client, idle = await sidecar.connect(), await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    sidecar.terminate()
    assert await idle.has_closed()
    for _ in range(3):
        response = await sidecar.exchange(GOOD)
        assert (response.status, response.get("connection")) == (200, b"close")
    silent = await sidecar.connect()
    origin.gate.set()

    assert (await client.response()).status == 200
    assert await sidecar.exit_code() == 0, "a connection that asks for nothing is not waited for"
    await silent.until(lambda: silent.ended)


def waits_for_signals(process: asyncio.subprocess.Process) -> bool:
    """Whether the kernel holds SIGTERM for it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    blocked = int(re.search(r"^SigBlk:\s*([0-9a-f]+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return bool(blocked >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_the_start_ends_it_in_good_order(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, number: int
) -> None:
    sidecar = await launch_sidecar(config_text(await start_origin()))
    await eventually(lambda: waits_for_signals(sidecar.process))

    for other in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, number):
        sidecar.process.send_signal(other)

    assert await sidecar.exit_code() == 0
    assert '"drained"' in sidecar.output
    assert "Traceback" not in sidecar.output


async def test_signals_are_held_before_anything_large_is_imported() -> None:
    held = "import sys; sys.argv = ['sidecar', 'run', '-c', '/nowhere']; import sidecar.__main__ as it, signal"
    shown = "print(sorted(sys.modules)); it.hold_signals(); print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{held}; {shown}", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    modules, mask = printed.decode().splitlines()
    assert not {"'argparse'", "'asyncio'", "'sidecar.cli'", "'json'"} & set(modules.strip("[]").split(", "))
    assert all(name in mask for name in ("SIGTERM", "SIGINT", "SIGHUP"))


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
    "bad-block": ('upstreams: {a: {url: "http://h", bulkhead: {max_queues: 2}}}\n', "max_queue"),
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
