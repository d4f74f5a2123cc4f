"""The fleet's stored answers in Redis: a `FarStore`. What happens there is in `cache.lua`."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sidecar.adapters.redis.client import RedisClient
from sidecar.adapters.redis.failure import ALL_KINDS, Trouble
from sidecar.adapters.redis.script import load_script
from sidecar.adapters.redis.subscriber import Subscriber
from sidecar.pipeline.fleet.ports import StoreUnavailable
from sidecar.pipeline.shared_store.ports import Found, News

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.core.fleet_settings import RedisSettings
    from sidecar.pipeline.ports import Clock
    from sidecar.pipeline.shared_store.ports import Batch
    from sidecar.pipeline.stats import FleetStats

DEADLINE = 1.0
"""Seconds for what nobody waits for; who waits for a look has a deadline of its own."""
MICRO = 1_000_000
POSITION_DIGITS = 16
NONSENSE = (ValueError, TypeError, IndexError, AttributeError)


class RedisCacheStore:
    """The answers under the namespace of `settings`. `name` is this sidecar's alone; a key keeps `most` variants."""

    def __init__(self, settings: RedisSettings, name: str, most: int, stats: FleetStats, clock: Clock) -> None:
        self.stats = stats
        for kind in ALL_KINDS:
            stats.errors.setdefault(kind, 0)
        trouble = Trouble(stats, clock.monotonic, "the cache goes on with what it has")
        self._client = RedisClient(settings, stats, trouble)
        self._script = load_script("cache.lua")
        self._name = name
        self._most = most
        self._round = 0
        prefix = f"{{{settings.namespace}}}:cache:"
        self._key = f"{prefix}v"
        self._channel = f"{prefix}events"

    async def read(self, key: bytes) -> Found:
        """The values under `key`."""
        doing = "look for a stored answer"
        reply = await self._run("read", _hash(key), doing=doing)
        try:
            time, newest, fields = reply
            now = int(time)
            if fields == b"garbage":
                return Found((), int(newest), 1)
            held = dict(zip(fields[::2], fields[1::2], strict=True))
            values, damaged = _values(held, now)
            return Found(values, int(newest), damaged)
        except NONSENSE as error:
            raise self._client.garbage(error, doing) from error

    async def exchange(self, known: int, batch: Batch) -> News:
        """Say what is new here, and hear what is new since the position `known`."""
        doing = "write stored answers"
        self._round += 1
        head = ("exchange", self._name, self._round, known, self._most)
        reply = await self._run(*head, *_wishes(batch), doing=doing)
        try:
            position, newest, results, purges, gone = reply
            told = [
                (int(float(at)), *self._whose(member)) for member, at in zip(purges[::2], purges[1::2], strict=True)
            ]
            keys = [self._whose(member) for member in gone]
            return News(
                int(position),
                int(newest),
                [result.decode() for result in results],
                told,
                [key for key, own in keys if not own],
            )
        except NONSENSE as error:
            raise self._client.garbage(error, doing) from error

    async def version(self) -> int | None:
        """The position of the latest event; None when it is lost, or nonsense."""
        try:
            found = await self._client.call("GET", self._key, deadline=DEADLINE, doing="hear of purges")
        except StoreUnavailable as failure:
            # What is no text there is overwritten by the exchange that follows.
            if failure.kind == "wrong_type":
                return None
            raise
        try:
            return None if found is None else int(found)
        except ValueError:
            return None

    async def listen(self, heard: Callable[[int], None]) -> None:
        """Tell `heard` the position of each event."""

        def message(octets: bytes) -> None:
            try:
                heard(int(octets))
            except ValueError as error:
                self._client.garbage(error, "hear of purges")

        await Subscriber(self._client, self._channel, message).run()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._client.close()

    async def _run(self, *arguments: str | bytes | int, doing: str) -> Any:
        return await self._client.run(self._script, self._key, *arguments, deadline=DEADLINE, doing=doing)

    def _whose(self, member: bytes) -> tuple[bytes, bool]:
        """What was told, and whether it was told by this sidecar."""
        name, _, what = member.partition(b"\n")
        return what, name == self._name.encode()


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()[:32]


def _values(held: dict[bytes, bytes], now: int) -> tuple[list[tuple[float, bytes]], int]:
    """The values of a hash, the newest first, and how many fields are none."""
    order = held.pop(b"order", b"").split()
    held.pop(b"gone", None)
    values = []
    for name in order:
        octets = held.pop(name, None)
        if octets is not None and octets[:POSITION_DIGITS].isdigit():
            elapsed = max(0.0, (now - int(octets[:POSITION_DIGITS])) / MICRO)
            values.append((elapsed, octets[POSITION_DIGITS:]))
    return values, len(order) - len(values) + len(held)


def _wishes(batch: Batch) -> Iterator[str | bytes | int]:
    for rule in batch.rules:
        yield from ("P", rule)
    for position, rule in batch.again:
        yield from ("R", position, rule)
    for change in batch.changes:
        hashed = _hash(change.key)
        if change.clear:
            yield from ("C", hashed, change.key)
        for variant in change.drops:
            yield from ("D", hashed, change.key, variant)
        for variant, ttl, value in change.writes:
            yield from ("S", hashed, variant, max(1, int(ttl * 1000)), value)
