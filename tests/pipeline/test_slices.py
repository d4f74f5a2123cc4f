import asyncio
from collections.abc import Callable, Iterator

from sidecar.pipeline.slices import SLICE, in_slices


def clock(step: float) -> Callable[[], float]:
    """A clock that goes on by `step` with every look at it."""
    now = 0.0

    def elapsed() -> float:
        nonlocal now
        now += step
        return now

    return elapsed


async def turns_of_others(pieces: int, step: float) -> int:
    turns, done = 0, False

    async def count() -> None:
        nonlocal turns
        while not done:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    assert await in_slices(range(pieces), clock(step)) == list(range(pieces))
    done, seen = True, turns
    await counting
    return seen


async def test_short_work_is_done_in_one_go() -> None:
    assert await turns_of_others(100, SLICE / 1000) == 0


async def test_after_each_slice_the_others_get_a_turn() -> None:
    assert await turns_of_others(100, SLICE * 2) == 100


async def test_pieces_are_made_only_when_their_turn_comes() -> None:
    made: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    working = asyncio.create_task(in_slices(pieces(), clock(SLICE * 2)))
    await asyncio.sleep(0)
    assert made == [0]
    assert await working == [0, 1, 2]
