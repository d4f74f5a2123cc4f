"""What outlives the process, through the real app and piece by piece."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.memory_store import MemoryStore
from sidecar.app import RealClock, build
from sidecar.app.persistence import CircuitKeeper, Persistence
from sidecar.app.snapshots import CacheKeeper
from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.config import CacheStoreSettings
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.local_control import LocalCircuits
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.tasks import Tasks
from tests.support.circuits import Bench
from tests.support.configured import loaded_from, written
from tests.support.origin import AGAIN, READ, READ_HEAD, RESET, WELL_BEHAVED, RawOrigin
from tests.support.stored_entries import entry
from tests.support.wire import PATIENCE, eventually, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.core.cache.stored import StoredResponse
    from sidecar.core.circuit.circuit import Circuit
    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin

CACHEABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 5\r\n\r\nfresh"
FORCED = {"mode": "forced_open", "reason": "deploy", "actor": "ann"}


def shop(origin: RawOrigin, state: Path, **more: Any) -> str:
    breaker = {"failure_threshold": 1, "open_duration": "1h"}
    return written({"shop": {"url": origin.url, "breaker": breaker, **more}}, state_dir=str(state))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


@pytest.fixture
def made(state: Path) -> Path:
    """The directory, which exists."""
    state.mkdir(parents=True)
    return state


def permissions(directory: Path) -> int:
    return directory.stat().st_mode & 0o777


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def saved(state: Path) -> dict[str, Any]:
    file = state / "circuits.json"
    return dict(json.loads(file.read_text())["circuits"]) if file.exists() else {}


# Through the app


async def test_an_open_circuit_and_its_reason_survive(
    start_origin: StartOrigin, configure: Configure, state: Path
) -> None:
    origin = await start_origin((READ_HEAD, RESET))
    first = await configure(shop(origin, state))
    assert (await first.get("/shop/")).status == 502
    before = (await first.call("GET", "/v1/circuits/shop"))[1]
    await first.stop()

    second = await configure(shop(origin, state))

    after = (await second.call("GET", "/v1/circuits/shop"))[1]
    assert after["state"] == before["state"] == "open"
    assert after["trip"]["detail"] == before["trip"]["detail"]
    assert after["next_probe_at"][:18] == before["next_probe_at"][:18]
    assert (await second.get("/shop/")).status == 503
    assert len(origin.requests) == 1
    event = (await second.call("GET", "/v1/events"))[1]["events"][0]
    assert event["details"]["cause"] == "restored"


async def test_what_it_recovered_from_survives(start_origin: StartOrigin, configure: Configure, state: Path) -> None:
    origin = await start_origin((READ_HEAD, RESET), WELL_BEHAVED)
    breaker = {"failure_threshold": 1, "open_duration": "50ms", "backoff": {"jitter": 0}, "success_threshold": 1}
    first = await configure(shop(origin, state, breaker=breaker))
    assert (await first.get("/shop/")).status == 502
    async with asyncio.timeout(PATIENCE):
        while (await first.get("/shop/")).status != 200:
            pass
    before = (await first.call("GET", "/v1/circuits/shop"))[1]
    await first.stop()

    second = await configure(shop(origin, state, breaker=breaker))

    after = (await second.call("GET", "/v1/circuits/shop"))[1]
    assert (after["state"], after["trip"]) == ("closed", None)
    assert after["last_trip"]["detail"] == before["last_trip"]["detail"]
    assert (after["last_probe"]["outcome"], after["last_probe"]["status"]) == ("success", 200)


async def test_an_override_is_on_disk_soon_and_gone_when_it_is_removed(
    start_origin: StartOrigin, configure: Configure, state: Path
) -> None:
    sidecar = await configure(shop(await start_origin(), state))

    await sidecar.call("PUT", "/v1/circuits/shop/override", FORCED)
    await eventually(lambda: saved(state).get("shop", {}).get("override", {}).get("actor") == "ann")
    await sidecar.call("DELETE", "/v1/circuits/shop/override")

    await eventually(lambda: saved(state) == {})


async def test_what_a_reload_takes_away_is_no_longer_on_disk(
    start_origin: StartOrigin, configure: Configure, state: Path
) -> None:
    origin = await start_origin()
    sidecar = await configure(shop(origin, state))
    await sidecar.call("PUT", "/v1/circuits/shop/override", FORCED)
    await eventually(lambda: "shop" in saved(state))

    await sidecar.reload(written({"other": {"url": origin.url}}, state_dir=str(state)))

    await eventually(lambda: saved(state) == {})


async def test_what_is_saved_of_a_route_that_is_gone_is_dropped(
    start_origin: StartOrigin, configure: Configure, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin = await start_origin()
    first = await configure(shop(origin, state))
    await first.call("PUT", "/v1/circuits/shop/override", FORCED)
    await first.stop()

    with caplog.at_level(logging.INFO, "sidecar.app.persistence"):
        second = await configure(written({"other": {"url": origin.url}}, state_dir=str(state)))

    assert (await second.get("/other/")).status == 200
    assert "saved circuits of routes that are gone are dropped: shop" in caplog.messages


async def test_stored_answers_survive(start_origin: StartOrigin, configure: Configure, state: Path) -> None:
    origin = await start_origin((READ, CACHEABLE, AGAIN))
    first = await configure(shop(origin, state))
    assert (await first.get("/shop/item")).body == b"fresh"
    await first.stop()

    second = await configure(shop(origin, state))

    answer = await second.get("/shop/item")
    assert (answer.status, answer.body) == (200, b"fresh")
    assert (answer.get("cache-status") or b"").startswith(b"sidecar; hit")
    assert len(origin.requests) == 1


@pytest.mark.parametrize("name", ["circuits.json", "cache.snapshot"])
async def test_a_damaged_file_costs_its_content_only(
    start_origin: StartOrigin, configure: Configure, made: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (made / name).write_bytes(b"\x00nonsense")

    sidecar = await configure(shop(await start_origin(), made))

    assert (await sidecar.get("/shop/")).status == 200
    assert any(name in message for message in caplog.messages)


@pytest.fixture
def not_a_directory(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.touch()
    return file


@pytest.mark.parametrize("below", ["", "state"])
async def test_a_directory_that_cannot_be_used_stops_the_start(not_a_directory: Path, below: str) -> None:
    state_dir = str(not_a_directory / below) if below else str(not_a_directory)
    text = written({"shop": {"url": "http://127.0.0.1:9"}}, state_dir=state_dir)
    app = build(loaded_from(not_a_directory.with_suffix(".yaml"), text), RealClock())

    with pytest.raises(OSError, match=f"state_dir {state_dir} cannot be used: "):
        await app.start()

    assert not app.control.started


async def test_a_second_process_on_the_same_address_leaves_the_state_alone(
    start_origin: StartOrigin, tmp_path: Path, made: Path
) -> None:
    (made / "circuits.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = {"listen": f"127.0.0.1:{server.getsockname()[1]}"}
        origin = await start_origin()
        text = written({"shop": {"url": origin.url}}, state_dir=str(made), proxy=listen)
        app = build(loaded_from(tmp_path / "second.yaml", text), RealClock())
        with pytest.raises(OSError, match="cannot listen on"):
            await app.start()

    assert (made / "circuits.json").read_text() == "{}"
    assert names(made) == ["circuits.json"]


async def test_a_directory_has_one_process_from_start_to_end(
    start_origin: StartOrigin, configure: Configure, tmp_path: Path, state: Path
) -> None:
    origin = await start_origin()
    first = await configure(shop(origin, state))
    (tmp_path / "link").symlink_to(state)
    for path in (state, tmp_path / "link"):
        app = build(loaded_from(tmp_path / "second.yaml", shop(origin, path)), RealClock())
        with pytest.raises(OSError, match=f"state_dir {path} is in use by another process"):
            await app.start()
    assert (await first.get("/shop/")).status == 200

    # A drain is not the end: what it saves last would be lost, or overwrite what the next one saved.
    await first.running.drain(asyncio.Event())
    app = build(loaded_from(tmp_path / "second.yaml", shop(origin, state)), RealClock())
    with pytest.raises(OSError, match="is in use by another process"):
        await app.start()
    await first.running.stop()

    await configure(shop(origin, state))


async def test_a_start_that_fails_gives_the_directory_back(
    start_origin: StartOrigin, configure: Configure, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = await start_origin()
    app = build(loaded_from(tmp_path / "first.yaml", shop(origin, state)), RealClock())

    async def fail(_: Persistence) -> None:
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Persistence, "restore", fail)
        with pytest.raises(OSError, match="gone"):
            await app.start()

    await configure(shop(origin, state))


async def test_the_end_does_not_wait_for_the_cache_when_there_is_hurry(
    start_origin: StartOrigin, configure: Configure, state: Path
) -> None:
    sidecar = await configure(shop(await start_origin(), state))
    await sidecar.call("PUT", "/v1/circuits/shop/override", FORCED)
    hurry = asyncio.Event()
    hurry.set()

    await sidecar.running.stop(hurry)

    assert names(state) == ["circuits.json"]
    assert "shop" in saved(state)


# Piece by piece


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    started = Tasks()
    yield started
    await started.cancel_all()


def one(circuit: Circuit) -> LocalCircuits:
    """The control of a single circuit."""
    return LocalCircuits(lambda: {"catalog": circuit}, RealClock().monotonic)


async def test_circuits_are_saved_only_after_the_beginning(made: Path, tasks: Tasks) -> None:
    bench = Bench()
    keeper = CircuitKeeper(made / "circuits.json", RealClock(), one(bench.circuit), tasks.spawn)
    bench.circuit.override(OverrideMode.FORCED_OPEN, "", "", None, 0.0)

    keeper.changed()
    await keeper.close()
    assert names(made) == []
    keeper.begin()

    await eventually(lambda: "catalog" in saved(made))


async def test_a_full_disk_is_told_once_and_costs_nothing_else(
    state: Path, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    path = state / "circuits.json"
    keeper = CircuitKeeper(path, RealClock(), one(bench.circuit), tasks.spawn)
    bench.circuit.override(OverrideMode.FORCED_OPEN, "", "", None, 0.0)
    keeper.begin()
    keeper.changed()
    await eventually(lambda: caplog.messages)

    await keeper.close()

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("overrides and open circuits are not saved, trying again: ")


def answer(number: int) -> StoredResponse:
    return replace(entry(), key=b"key%d" % number, keep_until=RealClock().monotonic() + 600)


async def test_the_cache_is_written_down_now_and_then_when_it_changed(made: Path, tasks: Tasks) -> None:
    path = made / "cache.snapshot"
    store = MemoryStore(CacheStoreSettings(), RealClock())
    tasks.spawn(CacheKeeper(path, RealClock(), store, every=0.01).run(), name="keeper")
    await turns(2)

    assert store.put(answer(1), store.begin(b""))
    await eventually(path.exists)
    path.unlink()
    assert store.put(answer(2), store.begin(b""))
    await eventually(path.exists)

    again = MemoryStore(CacheStoreSettings(), RealClock())
    await CacheKeeper(path, RealClock(), again).restore()
    assert again.stats.entries == 2


async def test_a_directory_is_made_for_this_user_only(state: Path, tasks: Tasks) -> None:
    clock = RealClock()
    snapshots = CacheKeeper(state / "cache.snapshot", clock, MemoryStore(CacheStoreSettings(), clock))
    runtime = Runtime(clock, DeadlineWheel(clock), tasks.spawn)
    keeping = Persistence(str(state), runtime, LocalCircuits(dict, clock.monotonic), snapshots)

    await keeping.open()
    keeping.release()
    await keeping.open()
    keeping.release()

    assert permissions(state) == 0o700
    assert names(state) == []
