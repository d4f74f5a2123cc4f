"""Start and stop: whatever was begun ends."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.app import RealClock, build
from tests.support.configured import Configured, loaded_from, written
from tests.support.leaks import still_running
from tests.support.origin import READ, STALL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin


def everything(url: str, state: Path) -> str:
    """A configuration that has something of each kind going on in the background."""
    upstream = {
        "url": url,
        "pool": {"warm": 2},
        "health": {"path": "/", "interval": "10ms"},
        "breaker": {"slow_rate": 0.5},
    }
    return written({"shop": upstream}, state_dir=str(state))


async def test_after_the_stop_nothing_goes_on(start_origin: StartOrigin, tmp_path: Path) -> None:
    origin = await start_origin((READ, STALL))
    before = asyncio.all_tasks()
    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", everything(origin.url, tmp_path / "state"))
    client = await sidecar.connect()
    await client.send(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")
    await origin.until(lambda seen: seen.requests)
    sidecar.running.control.reloader.request()

    await sidecar.stop()

    assert await still_running(before) == set()
    await client.until(lambda: client.ended)
    await origin.until(lambda seen: all(connection.ended for connection in seen.connections))
    sidecar.hang_up()


async def test_a_stop_may_follow_a_stop(start_origin: StartOrigin, tmp_path: Path) -> None:
    origin = await start_origin()
    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", everything(origin.url, tmp_path / "state"))
    await sidecar.stop()
    await sidecar.stop()


@pytest.mark.parametrize("listener", ["proxy", "admin", "telemetry"])
async def test_a_start_that_fails_leaves_nothing_behind(listener: str, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen: dict[str, Any] = {listener: {"listen": f"127.0.0.1:{taken.getsockname()[1]}"}}
        text = written({"shop": {"url": "http://127.0.0.1:9", "pool": {"warm": 1}}}, **listen)
        app = build(loaded_from(tmp_path / "sidecar.yaml", text), RealClock())
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:"):
            await app.start()

    assert await still_running(before) == set()
    assert app.addresses == {}


@pytest.mark.parametrize("listener", ["proxy", "admin", "telemetry"])
async def test_a_start_that_fails_removes_the_socket_files_that_it_made(listener: str, tmp_path: Path) -> None:
    made, other = tmp_path / "made.sock", tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(other))
        theirs.listen()
        listen: dict[str, Any] = {listener: {"listen": [f"unix:{made}", f"unix:{other}"]}}
        text = written({"shop": {"url": "http://127.0.0.1:9"}}, **listen)
        app = build(loaded_from(tmp_path / "sidecar.yaml", text), RealClock())
        with pytest.raises(OSError, match=f"cannot listen on unix:{other}: Address already in use"):
            await app.start()

    assert (made.exists(), other.exists()) == (False, True)


async def test_stopping_removes_the_socket_files(start_origin: StartOrigin, tmp_path: Path) -> None:
    origin = await start_origin()
    paths = {name: tmp_path / f"{name}.sock" for name in ("proxy", "admin", "telemetry")}
    listen: dict[str, Any] = {name: {"listen": f"unix:{path}"} for name, path in paths.items()}
    sidecar = await Configured.begin(tmp_path / "sidecar.yaml", written({"shop": {"url": origin.url}}, **listen))
    assert all(path.is_socket() for path in paths.values())

    await sidecar.running.drain(asyncio.Event())
    assert [name for name, path in paths.items() if path.exists()] == ["admin", "telemetry"]
    await sidecar.stop()

    assert [name for name, path in paths.items() if path.exists()] == []
