from __future__ import annotations

import asyncio
import logging
import stat
import struct
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.snapshot_file import FRAME, PREAMBLE, SnapshotFile, SnapshotLimits
from sidecar.core.config import CacheStoreSettings
from sidecar.core.storage.plain_codec import encode
from tests.support.stored_answers import StillClock, answer, language

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sidecar.core.cache.stored import StoredResponse

HOUR = 3600.0


class ListStore:
    """A `Snapshotable` that remembers what it was given, in order."""

    def __init__(self, *answers: tuple[int, StoredResponse]) -> None:
        self.answers = list(answers)

    def export(self) -> Iterator[list[tuple[int, StoredResponse]]]:
        for pair in self.answers:
            yield []
            yield [pair]

    def restore(self, weight: int, stored: StoredResponse) -> bool:
        self.answers.append((weight, stored))
        return True


def make_store() -> MemoryStore:
    return MemoryStore(CacheStoreSettings(max_size=1024 * 1024), StillClock())


async def saved(path: Path, *answers: tuple[int, StoredResponse]) -> None:
    assert await SnapshotFile(path, StillClock()).save(ListStore(*answers)) <= len(answers)


def names(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


def loaded(path: Path, clock: StillClock | None = None) -> list[tuple[int, StoredResponse]]:
    store = ListStore()
    assert SnapshotFile(path, clock or StillClock()).load(store) == len(store.answers)
    return store.answers


def framed(*payloads: bytes) -> bytes:
    records = [FRAME.pack(len(payload), crc32(payload)) + payload for payload in payloads]
    return PREAMBLE + b"".join(records) + FRAME.pack(0, len(records))


async def test_a_store_survives_a_restart(tmp_path: Path) -> None:
    before, after = make_store(), make_store()
    for number in range(100):
        stored = answer(number, selecting=language(b"de" if number % 2 else None), tags=(b"t",))
        before.put(stored, before.begin(stored.key))
    snapshot = SnapshotFile(tmp_path / "cache", StillClock())
    assert await snapshot.save(before) == 100
    assert snapshot.load(after) == 100
    (again,) = after.get(answer(7).key)
    (original,) = before.get(answer(7).key)
    assert (again.head, again.body, again.selecting, again.rules, again.tags, again.expires_at) == (
        original.head,
        original.body,
        original.selecting,
        original.rules,
        original.tags,
        original.expires_at,
    )
    assert after.purge(tag=b"t").entries == 100


async def test_times_pass_while_the_process_is_down(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    await saved(path, (3, answer()))
    restarted = StillClock(now=5.0, wall=StillClock().time + HOUR)
    ((weight, again),) = loaded(path, restarted)
    assert weight == 3
    assert (again.born, again.expires_at) == pytest.approx((900.0 - 995.0 - HOUR, 1100.0 - 995.0 - HOUR))


async def test_what_can_answer_nothing_any_more_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    await saved(path, (0, answer(1, keep_until=999.0)), (0, answer(2, keep_until=1010.0)), (0, answer(3)))
    assert [stored.url for _, stored in loaded(path)] == [answer(2).url, answer(3).url]
    later = StillClock(now=2000.0, wall=StillClock().time + 1000.0)
    assert [stored.url for _, stored in loaded(path, later)] == [answer(3).url]


async def test_the_most_valuable_answers_are_saved_when_not_all_fit(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    store = ListStore(*((0, answer(number, body=bytes(1000))) for number in range(50)))
    assert await SnapshotFile(path, StillClock(), SnapshotLimits(max_bytes=20_000)).save(store) > 10
    assert path.stat().st_size <= 20_000
    kept = [stored.url for _, stored in loaded(path)]
    assert kept == [answer(number).url for number in range(len(kept))]


async def test_saving_stops_when_its_time_is_up_and_leaves_a_whole_file(tmp_path: Path) -> None:
    clock = StillClock()

    class SlowStore(ListStore):
        def export(self) -> Iterator[list[tuple[int, StoredResponse]]]:
            for batch in super().export():
                clock.now += 1.0
                yield batch

    path = tmp_path / "cache"
    store = SlowStore(*((0, answer(number)) for number in range(50)))
    count = await SnapshotFile(path, clock, SnapshotLimits(seconds=10.0)).save(store)
    assert 0 < count < 10
    assert len(loaded(path)) == count


async def test_loading_stops_when_its_time_is_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = StillClock()

    class SlowStore(ListStore):
        def restore(self, weight: int, stored: StoredResponse) -> bool:
            clock.now += 1.0
            return super().restore(weight, stored)

    path = tmp_path / "cache"
    await saved(path, *((0, answer(number)) for number in range(20)))
    assert SnapshotFile(path, clock, SnapshotLimits(seconds=5.0)).load(SlowStore()) == 6
    assert "out of time" in caplog.text


async def test_the_loop_runs_on_while_a_store_is_saved(tmp_path: Path) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.ensure_future(turn())
    await saved(tmp_path / "cache", *((0, answer(number)) for number in range(500)))
    turning.cancel()
    assert turns > 500 // 32


async def test_two_saves_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    snapshot = SnapshotFile(tmp_path / "cache", StillClock())
    stores = [ListStore(*((0, answer(number)) for number in range(count))) for count in (100, 200)]
    assert await asyncio.gather(*map(snapshot.save, stores)) == [100, 200]
    assert len(loaded(tmp_path / "cache")) == 200


async def test_only_the_owner_may_read_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    await saved(tmp_path / "cache", (0, answer()))
    assert names(tmp_path) == ["cache"]
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o600


async def test_a_save_that_fails_leaves_the_snapshot_before_it(tmp_path: Path) -> None:
    class BrokenStore(ListStore):
        def export(self) -> Iterator[list[tuple[int, StoredResponse]]]:
            yield [(0, answer(2))]
            raise RuntimeError("broken")

    path = tmp_path / "cache"
    await saved(path, (0, answer(1)))
    with pytest.raises(RuntimeError):
        await SnapshotFile(path, StillClock()).save(BrokenStore())
    assert [stored.url for _, stored in loaded(path)] == [answer(1).url]
    assert names(tmp_path) == ["cache"]


async def test_a_directory_that_cannot_be_written_costs_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = SnapshotFile(tmp_path / "missing" / "cache", StillClock())
    assert await snapshot.save(ListStore((0, answer()))) == 0
    assert "not written" in caplog.text


def test_a_first_start_has_no_file_and_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert loaded(tmp_path / "cache") == []
    assert caplog.text == ""


async def test_a_number_that_no_file_can_hold_costs_only_its_answer(tmp_path: Path) -> None:
    await saved(tmp_path / "cache", (0, answer(1, keep_until=float("inf"))), (0, answer(2)))
    assert [stored.url for _, stored in loaded(tmp_path / "cache")] == [answer(2).url]


def payload(*value: object) -> bytes:
    parts: list[bytes] = []
    encode(value, parts)  # type: ignore[arg-type]  # shapes that no store writes
    return b"".join(parts)


FOREIGN = [
    pytest.param(b"", "not a cache snapshot", id="empty"),
    pytest.param(b"\x7fELF" + bytes(100), "not a cache snapshot", id="another file"),
    pytest.param(PREAMBLE[:-1] + b"\x63" + framed()[len(PREAMBLE) :], "not of version", id="another version"),
    pytest.param(PREAMBLE, "ends early", id="no end mark"),
    pytest.param(PREAMBLE + b"\xff\xff\xff\xff\x00\x00\x00\x00x", "ends early", id="a length beyond the end"),
    pytest.param(PREAMBLE + FRAME.pack(0, 5), "missing", id="records missing"),
    pytest.param(framed() + b"x", "after the end", id="bytes after the end"),
    pytest.param(framed(b"garbage"), "no stored answer", id="a payload that is no value"),
    pytest.param(framed(payload(0, ())), "no stored answer", id="a value that is no answer"),
    pytest.param(framed(payload(0, 1, 2)), "no stored answer", id="a value of another shape"),
    pytest.param(framed(payload("0", ())), "no stored answer", id="a weight that is no number"),
    pytest.param(framed(payload(256, ())), "no stored answer", id="a weight out of range"),
    pytest.param(framed(b"n"), "no stored answer", id="nothing in a record"),
    pytest.param(framed(b"t" + struct.pack(">I", 2**32 - 1)), "no stored answer", id="a hostile count"),
]


@pytest.mark.parametrize(("octets", "why"), FOREIGN)
def test_a_damaged_or_foreign_file_is_ignored_with_a_warning(
    octets: bytes, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache"
    path.write_bytes(octets)
    assert loaded(path) == []
    ((_, level, message),) = caplog.record_tuples
    assert level == logging.WARNING
    assert why in message
    assert path.read_bytes() == octets


def test_a_directory_in_its_place_is_ignored_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert loaded(tmp_path) == []
    assert "ignored" in caplog.text


def test_a_file_larger_than_the_limit_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache"
    path.write_bytes(framed() + bytes(100))
    assert SnapshotFile(path, StillClock(), SnapshotLimits(max_bytes=50)).load(ListStore()) == 0
    assert "limit" in caplog.text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("snapshot") / "cache"
    asyncio.run(saved(path, (1, answer(1)), (0, answer(2))))
    return path.read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_or_cut_makes_the_file_ignored(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    octets = bytearray(whole)
    if data.draw(st.booleans()):
        octets[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del octets[place:]
    path = tmp_path / "cache"
    path.write_bytes(octets)
    assert loaded(path) == []


async def test_once_there_is_hurry_nothing_is_written(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "cache.snapshot", StillClock())
    file.hurry()
    assert await file.save(ListStore((1, answer(1)))) == 0
    assert file.load(ListStore()) == 0


async def test_a_save_that_hurry_overtakes_keeps_what_it_has(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "cache.snapshot", StillClock())

    class Overtaken(ListStore):
        def export(self) -> Iterator[list[tuple[int, StoredResponse]]]:
            yield self.answers[:1]
            file.hurry()
            yield self.answers[1:2]
            yield self.answers[2:]

    assert await file.save(Overtaken((3, answer(1)), (2, answer(2)), (1, answer(3)))) == 2
    restored = ListStore()
    assert file.load(restored) == 2
