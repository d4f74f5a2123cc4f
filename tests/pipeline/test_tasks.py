from __future__ import annotations

import asyncio
import logging

import pytest

from sidecar.pipeline.tasks import Tasks


async def wait_for_ever(begun: asyncio.Event | None = None) -> None:
    if begun is not None:
        begun.set()
    await asyncio.Event().wait()


async def fail() -> None:
    raise ZeroDivisionError


async def test_work_runs_under_its_name() -> None:
    names: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    tasks = Tasks()
    await tasks.spawn(work(), name="refresh")
    await tasks.start(work(), name="exchange")
    assert names == ["refresh", "exchange"]


async def test_what_a_task_raises_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        await tasks.spawn(fail(), name="refresh")
    assert [record.getMessage() for record in caplog.records] == ["task refresh failed"]
    assert caplog.records[0].exc_info is not None


async def test_a_task_that_its_starter_keeps_is_the_starters_to_hear_of(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    with pytest.raises(ZeroDivisionError):
        await tasks.start(fail(), name="exchange")
    mine = tasks.start(wait_for_ever(), name="exchange")
    await tasks.cancel_all()
    assert not mine.done()
    mine.cancel()
    assert caplog.records == []


async def test_cancelling_ends_everything_and_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    begun = asyncio.Event()
    running = [tasks.spawn(wait_for_ever(begun), name="one"), tasks.spawn(wait_for_ever(), name="never begun")]
    await begun.wait()
    await tasks.cancel_all()
    assert [task.cancelled() for task in running] == [True, True]
    assert caplog.records == []
    await tasks.cancel_all()


async def test_what_ending_tasks_start_is_ended_too() -> None:
    tasks = Tasks()
    begun = asyncio.Event()
    last: list[asyncio.Task[None]] = []

    async def start_another() -> None:
        try:
            await wait_for_ever(begun)
        finally:
            last.append(tasks.spawn(wait_for_ever(), name="last words"))

    tasks.spawn(start_another(), name="first")
    await begun.wait()
    await tasks.cancel_all()
    assert [task.cancelled() for task in last] == [True]


async def test_a_task_that_is_over_is_kept_no_longer() -> None:
    tasks = Tasks()
    await tasks.spawn(asyncio.sleep(0), name="short")
    await asyncio.sleep(0)
    assert tasks._running == set()
