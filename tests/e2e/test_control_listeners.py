"""The control listeners of the real process: what callers cannot do to it, and how one may end it."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ
from tests.support.running import config_text
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import LaunchSidecar, StartOrigin

DESCRIPTORS = 1024
IDLE = 1500
ON = {"admin": {"listen": "127.0.0.1:0", "quitquitquit": True}}


@pytest.fixture
def idle_calls() -> Iterator[list[socket.socket]]:
    """Connections that nobody uses; more of them than this process may usually have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * IDLE)), hard))
    calls: list[socket.socket] = []
    yield calls
    for call in calls:
        call.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("listener", ["telemetry", "admin"])
async def test_idle_callers_do_not_stop_the_proxy(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, idle_calls: list[socket.socket], listener: str
) -> None:
    sidecar = await launch_sidecar(config_text(await start_origin()))
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    await sidecar.ready()

    for number in range(IDLE):
        idle_calls.append(await asyncio.to_thread(socket.create_connection, sidecar.addresses[listener][0]))
        if number % 100 == 0:
            assert await sidecar.is_well()

    await eventually(lambda: sidecar.descriptors() < DESCRIPTORS // 2)
    assert await sidecar.is_well()
    assert (await sidecar.metrics()).total("sidecar_config_last_reload_successful") == 1
    assert (await sidecar.api("GET", "/v1/circuits"))["circuits"]
    assert "Traceback" not in sidecar.output


async def test_quitquitquit_drains_and_ends(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await (await launch_sidecar(config_text(origin, top=ON))).ready()
    client = await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)

    assert await sidecar.api("POST", "/quitquitquit") == {"draining": True}
    await sidecar.printed('"draining"')
    sidecar.terminate()  # as the kubelet does when the last container of the Job has ended: no second signal
    origin.gate.set()

    assert (await client.response()).status == 200
    assert await sidecar.exit_code() == 0
    assert "Traceback" not in sidecar.output


async def test_quitquitquit_must_be_switched_on(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    sidecar = await (await launch_sidecar(config_text(await start_origin()))).ready()
    with pytest.raises(AssertionError, match="404"):
        await sidecar.api("POST", "/quitquitquit")
    assert await sidecar.is_well()


async def test_only_a_post_ends_it(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    sidecar = await (await launch_sidecar(config_text(await start_origin(), top=ON))).ready()
    with pytest.raises(AssertionError, match="405"):
        await sidecar.api("GET", "/quitquitquit")
    assert await sidecar.is_well()


async def test_startupz_says_started_once_it_listens(start_origin: StartOrigin, launch_sidecar: LaunchSidecar) -> None:
    sidecar = await (await launch_sidecar(config_text(await start_origin()))).ready()
    assert await sidecar._ask("telemetry", "GET", "/startupz") == b"started\n"
