"""What is decided in short for the common request is what is decided at length for any."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.pipeline.errors import ConnectionLost, ProxyError
from tests.support.cache_world import Reply, World
from tests.support.fake_store import FakeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.stored import StoredResponse

FRESH = {"Cache-Control": "max-age=60", "Vary": "Accept-Encoding", "ETag": '"v1"'}
ANSWERS = [
    FRESH,
    {"Cache-Control": "max-age=60"},
    {"Cache-Control": "max-age=60, public"},
    {"Cache-Control": "max-age=5", "Vary": "Accept-Encoding, Cookie"},
    {"Cache-Control": "s-maxage=60"},
    {"Cache-Control": "max-age=60, no-cache", "ETag": '"v1"'},
    {"Cache-Control": "max-age=5, stale-while-revalidate=30"},
    {"Cache-Control": "no-store"},
    {"Cache-Control": "private"},
    {"Cache-Control": "max-age=60", "Vary": "*"},
    {"Last-Modified": "Sat, 08 Sep 2001 01:46:40 GMT"},
    {},
]
FIELDS = [
    ("Accept-Encoding", "gzip, br"),
    ("Accept-Encoding", "br,gzip"),
    ("Cookie", "a=b"),
    ("Authorization", "Bearer x"),
    ("Authorization", "NTLM x"),
    ("Authorization", "Basic x, Negotiate y"),
    ("Connection", "keep-alive"),
    ("Connection", "Keep-Alive"),
    ("Connection", "Cookie, X-Own"),
    ("X-Own", "1"),
    ("X-Forwarded-Host", "evil"),
    ("Cache-Control", "max-age=10"),
    ("Cache-Control", "only-if-cached"),
    ("Pragma", "no-cache"),
    ("If-None-Match", '"v1"'),
    ("If-Match", '"v1"'),
    ("Range", "bytes=1-2"),
    ("If-Range", '"v1"'),
]


@dataclass(frozen=True)
class Step:
    """What the upstream is like, how much later it is, and what is asked."""

    answer: int
    trouble: str  # "", "open", "probing", "status", "lost"
    later: float
    method: str
    fields: list[tuple[str, str]]


STEPS = st.lists(
    st.builds(
        Step,
        st.integers(0, len(ANSWERS) - 1),
        st.sampled_from(["", "", "", "open", "probing", "status", "lost"]),
        st.sampled_from([0.0, 0.0, 10.0, 100.0]),
        st.sampled_from(["GET", "GET", "GET", "GET", "HEAD", "POST"]),
        st.lists(st.sampled_from(FIELDS), max_size=3, unique_by=lambda line: line[0]),
    ),
    min_size=2,
    max_size=8,
)


async def told(world: World, steps: Sequence[Step]) -> list[object]:
    """What a client hears of it all."""
    heard: list[object] = []
    for step in steps:
        error = ConnectionLost("lost") if step.trouble == "lost" else None
        status = 503 if step.trouble == "status" else 200
        world.origin.replies = [Reply(status, ANSWERS[step.answer], b"%d" % step.answer, error=error)]
        world.origin.open, world.origin.is_probing = step.trouble == "open", step.trouble == "probing"
        world.clock.now += step.later
        try:
            answer = await world.ask(fields=step.fields, method=step.method)
            heard.append((answer.status, answer.headers, answer.body, answer.source, answer.response.stand_in))
        except ProxyError as refused:
            heard.append(type(refused))
        await world.settle()
        heard.append(world.asked)
    return heard


@given(STEPS)
def test_the_common_request_is_answered_as_any_other(steps: list[Step]) -> None:
    async def both() -> tuple[list[object], list[object]]:
        short, long = World(Reply()), World(Reply())
        long.stage._is_plain = False
        return await told(short, steps), await told(long, steps)

    short, long = asyncio.run(both())
    assert short == long


class CountingStore(FakeStore):
    """Counts the looks into it."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def get(self, key: bytes) -> Sequence[StoredResponse]:
        self.looks += 1
        return super().get(key)


@pytest.mark.parametrize("credentials", [{}, {"Authorization": "Bearer x"}], ids=["nobody", "somebody"])
async def test_each_decision_takes_one_look_into_the_store(credentials: dict[str, str]) -> None:
    store = CountingStore()
    replies = Reply(fields={"Cache-Control": "max-age=60, public"}), Reply(fields={"Cache-Control": "no-store"})
    world = World(*replies, store=store)
    await world.ask(fields=credentials)
    world.origin.open = True
    for later, looks in ((0, 1), (100, 1)):
        world.clock.now += later
        store.looks = 0
        assert (await world.ask(fields=credentials)).hit
        assert store.looks == looks
    world.origin.open = False
    store.looks = 0
    assert (await world.ask("/b", credentials)).word == "uri-miss"
    assert store.looks == 1
