"""A hundred members at one Redis that goes away and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.outcome import Outcome
from tests.support.bare_member import BareMember
from tests.support.redis_server import RedisServer, redis_server
from tests.support.wire import comes_true, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANY = 100


class Crowd:
    """The members, and how often a circuit of theirs opened."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.members: list[BareMember] = []

    async def join(self, count: int, **breaker: Any) -> list[BareMember]:
        fresh = [BareMember(self.server.url, f"m{number}", **breaker) for number in range(count)]
        self.members += fresh
        await asyncio.gather(*(member.coordinator.join() for member in fresh))
        await eventually(lambda: all(member.stats.members == count for member in self.members))
        return self.members

    def open(self) -> int:
        return sum(member.state is State.OPEN for member in self.members)


@pytest.fixture
async def crowd(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[Crowd]:  # noqa: ARG001 - torn down after it
    async with redis_server(tmp_path) as server:
        crowd = Crowd(server)
        yield crowd
        await asyncio.gather(*(member.stop() for member in crowd.members))


async def test_a_hundred_that_come_back_at_once_agree_within_five_seconds(crowd: Crowd) -> None:
    members = await crowd.join(MANY)
    members[0].fail()
    await crowd.server.stop()
    members[1].fail()
    await eventually(lambda: not any(member.stats.up for member in members))
    assert crowd.open() == 2
    await crowd.server.start()
    await eventually(lambda: crowd.open() == MANY, within=5.0, every=0.02)
    assert all(member.stats.errors["connection"] for member in members)


async def test_a_hundred_that_ask_at_once_send_one_probe_in_each_period(crowd: Crowd) -> None:
    members = await crowd.join(MANY, open_duration=0.5)
    members[0].fail()
    members[1].fail()
    await eventually(lambda: crowd.open() == MANY)
    for _ in range(2):
        probes: list[bool] = []

        async def probed(probes: list[bool] = probes) -> bool:
            probes += await asyncio.gather(*(member.probe(Outcome.FAILURE) for member in members))
            return any(probes)

        await comes_true(probed)
        assert sum(probes) == 1
