"""Fixtures of the whole suite: the loop of production, origins, the sidecar, and the proof that nothing leaks."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import uvloop
from hypothesis import settings

from tests.support.leaks import descriptors, left_open, still_running
from tests.support.origin import RawOrigin, Script
from tests.support.running import InProcess, SidecarProcess, config_text

settings.register_profile("fuzz", max_examples=1000, deadline=None)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    """After a test every socket, pipe and epoll descriptor that it opened is closed."""
    before = descriptors()
    yield
    assert left_open(before) == {}, "descriptors left open"


class StartOrigin(Protocol):
    async def __call__(self, *scripts: Script, host: str = ..., **where: Any) -> RawOrigin: ...


class StartSidecar(Protocol):
    async def __call__(self, origin: RawOrigin | str | list[str] | None, **blocks: Any) -> InProcess: ...


class LaunchSidecar(Protocol):
    async def __call__(self, text: str) -> SidecarProcess: ...


@pytest.fixture
async def no_task_leaks() -> AsyncIterator[None]:
    """After a test no task that it started runs on."""
    before = asyncio.all_tasks()
    yield
    assert await still_running(before) == set(), "tasks left running"


@pytest.fixture
async def start_origin(no_task_leaks: None) -> AsyncIterator[StartOrigin]:  # noqa: ARG001 - torn down after it
    """Start an origin whose connections follow the scripts given."""
    started: list[RawOrigin] = []

    async def start(*scripts: Script, host: str = "127.0.0.1", **where: Any) -> RawOrigin:
        origin = RawOrigin(*scripts)
        started.append(origin)
        if "unix_path" in where:
            await origin.start_unix(where["unix_path"])
        else:
            await origin.start(host, **where)
        return origin

    yield start
    for origin in started:
        await origin.stop()


@pytest.fixture
async def start_sidecar(start_origin: StartOrigin) -> AsyncIterator[StartSidecar]:  # noqa: ARG001 - origins outlive it
    """Build and start the whole sidecar in this process; afterwards nothing may be in flight in it."""
    started: list[InProcess] = []

    async def start(origin: RawOrigin | str | list[str] | None, **blocks: Any) -> InProcess:
        sidecar = await InProcess.start(config_text(origin, **blocks))
        started.append(sidecar)
        return sidecar

    yield start
    for sidecar in started:
        sidecar.hang_up()
        try:
            assert await sidecar.is_quiet()
            assert sidecar.permits() == 0
        finally:
            await sidecar.stop()


@pytest.fixture
async def launch_sidecar(
    tmp_path: Path,
    no_task_leaks: None,  # noqa: ARG001 - torn down before it
) -> AsyncIterator[LaunchSidecar]:
    """Run `python -m sidecar run` on a configuration's text."""
    launched: list[SidecarProcess] = []

    async def launch(text: str) -> SidecarProcess:
        file = tmp_path / f"sidecar{len(launched)}.yaml"
        file.write_text(text)
        process = await SidecarProcess.launch(file)
        launched.append(process)
        return process

    yield launch
    for process in launched:
        await process.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every asynchronous test is held to leave no task behind."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_task_leaks")
