"""What belongs to another process is left alone: socket files of all listeners, and `state_dir`."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD, connect
from tests.support.origin import AGAIN, GATE, OK, READ
from tests.support.running import config_text
from tests.support.wire import PATIENCE, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import LaunchSidecar, StartOrigin
    from tests.support.messages import WireResponse
    from tests.support.running import SidecarProcess

LISTENERS = ("proxy", "admin", "telemetry")
PATHS = {"proxy": "/", "admin": "/v1/info", "telemetry": "/readyz"}


def text(origin: Any, listener: str, *addresses: str, **top: Any) -> str:
    """Everything on free ports but one listener."""
    listen = {"listen": list(addresses)}
    if listener == "proxy":
        return config_text(origin, proxy=listen, top=top)
    return config_text(origin, top={listener: listen, **top})


@pytest.fixture
async def origin_url(start_origin: StartOrigin) -> str:
    return (await start_origin()).url


async def asked(listener: str, path: Path) -> WireResponse:
    client = await connect(str(path))
    try:
        return await client.exchange(f"GET {PATHS[listener]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    finally:
        client.transport.abort()


async def answers(listener: str, path: Path) -> bool:
    return (await asked(listener, path)).status == 200


async def up(sidecar: SidecarProcess) -> SidecarProcess:
    await sidecar.printed('"listener":"telemetry"')
    return sidecar


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_live_socket_is_an_error(
    origin_url: str, launch_sidecar: LaunchSidecar, tmp_path: Path, listener: str
) -> None:
    path, free = tmp_path / "x.sock", tmp_path / "free.sock"
    first = await up(await launch_sidecar(text(origin_url, listener, f"unix:{path}")))
    before = path.stat()

    for addresses in ([f"unix:{path}"], [f"unix:{free}", f"unix:{path}"]):
        second = await launch_sidecar(text(origin_url, listener, *addresses))
        assert await second.exit_code() == 1
        assert second.output == f"sidecar: cannot listen on unix:{path}: Address already in use\n"

    assert os.path.samestat(path.stat(), before)
    assert not free.exists()
    assert await answers(listener, path)
    first.terminate()
    assert await first.exit_code() == 0
    assert not path.exists()


@pytest.mark.parametrize("listener", LISTENERS)
async def test_what_a_killed_process_left_is_replaced_and_what_another_left_is_not(
    origin_url: str, launch_sidecar: LaunchSidecar, tmp_path: Path, listener: str
) -> None:
    path = tmp_path / "x.sock"
    config = text(origin_url, listener, f"unix:{path}")
    first = await up(await launch_sidecar(config))
    first.process.kill()
    await first.exit_code()
    assert path.exists()

    second = await up(await launch_sidecar(config))
    assert await answers(listener, path)
    path.unlink()
    path.write_text("somebody else's")
    second.terminate()

    assert await second.exit_code() == 0
    assert path.read_text() == "somebody else's"
    third = await launch_sidecar(config)
    assert await third.exit_code() == 1
    assert f"unix:{path}: what is there is no socket" in third.output
    assert path.read_text() == "somebody else's"


async def test_a_process_that_drains_leaves_the_socket_to_its_successor(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    path = tmp_path / "x.sock"
    origin = await start_origin((READ, GATE, OK, AGAIN), (READ, OK, AGAIN))
    config = text(origin, "proxy", f"unix:{path}")
    first = await up(await launch_sidecar(config))
    client = await connect(str(path))
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)
    first.terminate()
    await eventually(lambda: not path.exists())

    second = await up(await launch_sidecar(config))
    made = path.stat()
    origin.gate.set()

    assert (await client.response()).body == b"ok"
    client.transport.abort()
    assert await first.exit_code() == 0
    assert os.path.samestat(path.stat(), made)
    assert await answers("proxy", path)
    second.terminate()
    assert await second.exit_code() == 0
    assert not path.exists()


@pytest.mark.parametrize("listener", ["proxy", "admin"])
async def test_of_two_starts_at_the_same_time_one_lives(
    origin_url: str, launch_sidecar: LaunchSidecar, tmp_path: Path, listener: str
) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    started = [await launch_sidecar(text(origin_url, listener, f"unix:{path}")) for _ in range(2)]
    ending = {asyncio.ensure_future(sidecar.process.wait()): sidecar for sidecar in started}

    ended, _ = await asyncio.wait(ending, timeout=3 * PATIENCE, return_when=asyncio.FIRST_COMPLETED)

    (lost,) = ended
    assert lost.result() == 1
    (living,) = [sidecar for exit_, sidecar in ending.items() if exit_ is not lost]
    await up(living)
    assert await answers(listener, path)
    living.terminate()
    assert await living.exit_code() == 0
    await asyncio.wait(ending)
    assert not path.exists()


async def test_a_state_dir_in_use_is_refused_also_while_its_process_drains(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    origin = await start_origin((READ, GATE, OK, AGAIN), (READ, OK, AGAIN))
    config = config_text(origin, top={"state_dir": str(state)})
    refusal = f"sidecar: state_dir {state} is in use by another process\n"
    first = await (await launch_sidecar(config)).ready()
    client = await first.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    second = await launch_sidecar(config)
    assert await second.exit_code() == 1
    assert second.output == refusal
    first.terminate()
    await first.printed("draining")
    third = await launch_sidecar(config)
    assert await third.exit_code() == 1
    assert third.output == refusal

    origin.gate.set()
    assert (await client.response()).body == b"ok"
    assert await first.exit_code() == 0
    fourth = await (await launch_sidecar(config)).ready()
    assert await fourth.is_well()
    fourth.process.kill()
    await fourth.exit_code()
    assert await (await (await launch_sidecar(config)).ready()).is_well()
