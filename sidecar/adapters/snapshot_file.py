"""The cache store in a file, so that a restart does not empty it (cache.md 27).

Magic and version, then records (length, CRC-32, payload), the most valuable first, then an end mark with their number.
A file is written beside its place and renamed, so there is a whole one or none; one that is damaged, foreign or of
another version is left alone with a warning. The loop encodes small batches between requests; a thread writes them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast
from zlib import crc32

from sidecar.core.cache.stored import Plain, StoredResponse, from_plain, to_plain
from sidecar.core.storage.plain_codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecar.pipeline.ports import Clock

log = logging.getLogger(__name__)

MAGIC = b"circuit-sidecar cache snapshot\n"
VERSION = 1
PREAMBLE = MAGIC + VERSION.to_bytes(2, "big")
FRAME = struct.Struct(">II")
"""Length and CRC-32 of a record; 0 and the number of records at the end."""
BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 32
PIECE = 64 * 1024
MAX_WEIGHT = 255


class Snapshotable(Protocol):
    """A store that can be written down and filled again."""

    def export(self) -> Iterator[list[tuple[int, StoredResponse]]]:
        """Batches of answers, the most valuable first, each with its weight (0–255). They may be empty."""

    def restore(self, weight: int, stored: StoredResponse) -> bool:
        """Take one of them back; False when there is no room."""


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """What one save or load may take: bytes of file, seconds."""

    max_bytes: int = 64 * 1024 * 1024
    seconds: float = 5.0


class Damaged(Exception):
    """The file is not a whole snapshot of this version; the message says why."""


class SnapshotFile:
    """The snapshot at `path`. Its directory must exist; whatever goes wrong is logged and costs only the snapshot."""

    def __init__(self, path: Path, clock: Clock, limits: SnapshotLimits | None = None) -> None:
        self._path = path
        self._clock = clock
        self._limits = limits or SnapshotLimits()
        self._saving = asyncio.Lock()
        self._hurried = False

    async def save(self, store: Snapshotable) -> int:
        """Write what `store` holds, as much as the limits allow; how many answers that were."""
        async with self._saving:
            try:
                return 0 if self._hurried else await self._write(store)
            except OSError as error:
                log.warning("cache snapshot %s not written: %s", self._path, error)
                return 0

    def hurry(self) -> None:
        """Time is up: a save under way ends with the most valuable answers, which it has, and no other begins."""
        self._hurried = True

    async def _write(self, store: Snapshotable) -> int:
        writer = await asyncio.to_thread(_Writer, self._path)
        try:
            for batch in self._batches(store):
                await asyncio.to_thread(writer.write, batch)
            await asyncio.to_thread(writer.commit)
        finally:
            writer.discard()
        return writer.count

    def _batches(self, store: Snapshotable) -> Iterator[list[list[bytes]]]:
        """Encoded records until the limits are reached, in batches that take the loop about a millisecond."""
        deadline = self._clock.monotonic() + self._limits.seconds
        left = self._limits.max_bytes - len(PREAMBLE) - FRAME.size
        batch: list[list[bytes]] = []
        batch_bytes = 0
        for exported in store.export():
            for record in self._encoded(exported):
                size = FRAME.size + sum(map(len, record))
                if size > left:
                    continue
                left -= size
                batch.append(record)
                batch_bytes += size
                if len(batch) >= BATCH_RECORDS or batch_bytes >= BATCH_BYTES:
                    yield batch
                    batch, batch_bytes = [], 0
            if self._hurried or self._clock.monotonic() > deadline:
                break
        yield batch

    def _encoded(self, exported: Iterable[tuple[int, StoredResponse]]) -> Iterator[list[bytes]]:
        """The payload of each answer that is still of use, in parts that hold its body by reference."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        for weight, stored in exported:
            if stored.keep_until <= now:
                continue
            parts: list[bytes] = []
            with suppress(ValueError):  # a time or number that no file can hold is not worth a snapshot
                encode((weight, to_plain(stored, now, wall)), parts)
                yield parts

    def load(self, store: Snapshotable) -> int:
        """Fill `store` from the file, as far as there is room and time; how many answers that were.

        Blocks: meant for the start, before anything listens.
        """
        try:
            with self._path.open("rb") as file:
                self._check(file)
                return self._restore(store, file)
        except FileNotFoundError:
            return 0
        except (OSError, Damaged) as error:
            log.warning("cache snapshot %s ignored: %s", self._path, error)
            return 0

    def _check(self, file: BinaryIO) -> None:
        """Raise Damaged unless every record is as it was written, up to the end mark."""
        size = os.fstat(file.fileno()).st_size
        if size > self._limits.max_bytes:
            raise Damaged(f"{size} bytes, more than the limit of {self._limits.max_bytes}")
        _check_preamble(file)
        for length, checksum in _frames(file):
            if _checksum(file, length) != checksum:
                raise Damaged("a record does not match its checksum")
        if file.tell() != size:
            raise Damaged("bytes after the end mark")

    def _restore(self, store: Snapshotable, file: BinaryIO) -> int:
        deadline = self._clock.monotonic() + self._limits.seconds
        file.seek(len(PREAMBLE))
        count = 0
        for length, _ in _frames(file):
            weight, stored = self._decoded(file.read(length))
            if stored.keep_until > self._clock.monotonic():
                count += store.restore(weight, stored)
            if self._clock.monotonic() > deadline:
                log.warning("cache snapshot %s: stopped after %d answers, out of time", self._path, count)
                break
        return count

    def _decoded(self, payload: bytes) -> tuple[int, StoredResponse]:
        try:
            weight, plain = cast("tuple[int, Plain]", decode(payload))
            if not 0 <= weight <= MAX_WEIGHT:
                raise ValueError("a weight out of range")
            return weight, from_plain(plain, self._clock.monotonic(), self._clock.wall())
        except (ValueError, TypeError) as error:
            raise Damaged(f"a record holds no stored answer: {error}") from error


class _Writer:
    """The file that is being written, beside the place where it will be. Everything here may block."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._temporary = path.with_name(path.name + ".new")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(PREAMBLE)

    def write(self, batch: list[list[bytes]]) -> None:
        """Append each record of `batch`, given in parts."""
        for parts in batch:
            checksum = 0
            for part in parts:
                checksum = crc32(part, checksum)
            self._file.write(FRAME.pack(sum(map(len, parts)), checksum))
            self._file.writelines(parts)
        self.count += len(batch)

    def commit(self) -> None:
        """Make what was written durable, and the snapshot."""
        self._file.write(FRAME.pack(0, self.count))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind of what was not committed."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _check_preamble(file: BinaryIO) -> None:
    preamble = file.read(len(PREAMBLE))
    if not preamble.startswith(MAGIC):
        raise Damaged("not a cache snapshot")
    if preamble != PREAMBLE:
        raise Damaged(f"not of version {VERSION}")


def _frames(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Length and checksum of each record; whoever iterates reads the record itself."""
    count = 0
    while True:
        frame = file.read(FRAME.size)
        if len(frame) < FRAME.size:
            raise Damaged("it ends early")
        length, checksum = FRAME.unpack(frame)
        if not length:
            break
        yield length, checksum
        count += 1
    if checksum != count:
        raise Damaged("records are missing")


def _checksum(file: BinaryIO, length: int) -> int:
    checksum = 0
    while length:
        piece = file.read(min(length, PIECE))
        if not piece:
            raise Damaged("it ends early")
        checksum = crc32(piece, checksum)
        length -= len(piece)
    return checksum
