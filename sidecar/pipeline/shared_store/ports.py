"""What is asked of the store that the sidecars of a fleet share; `adapters/redis` implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Found(NamedTuple):
    """What there is under a key: its values, each with the seconds since it was written, and the position of the
    latest purge. `damaged`: so many more that are none.
    """

    values: Sequence[tuple[float, bytes]]
    newest: int
    damaged: int = 0


class Write(NamedTuple):
    """A value to be kept for `ttl` seconds, in place of the same variant."""

    variant: bytes
    ttl: float
    value: bytes


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What is to become of one key: everything goes if `clear`, else these variants, then these come."""

    key: bytes
    clear: bool
    drops: Sequence[bytes]
    writes: Sequence[Write]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one sidecar says: purges, purges that the store has forgotten with their positions, and changes of keys."""

    rules: Sequence[bytes] = ()
    again: Sequence[tuple[int, bytes]] = ()
    changes: Sequence[KeyChange] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What came of a batch, and what happened since the position that its sender knew.

    `position` is that of the latest event, `newest` that of the latest purge. `purges` are those of anybody, each with
    its position and whether it is the sender's own; `gone` are the keys that others invalidated.
    """

    position: int
    newest: int
    results: Sequence[str]
    purges: Sequence[tuple[int, bytes, bool]]
    gone: Sequence[bytes]


class FarStore(Protocol):
    """The fleet's store. Every call ends within its deadline, or raises StoreUnavailable."""

    async def read(self, key: bytes) -> Found:
        """The values under `key`."""

    async def exchange(self, known: int, batch: Batch) -> News:
        """Say what is new here, and hear what is new since the position `known`."""

    async def version(self) -> int | None:
        """The position of the latest event; None when it is lost."""

    async def listen(self, heard: Callable[[int], None]) -> None:
        """Tell `heard` the position of each event, for as long as the task lives, whatever happens."""

    async def close(self) -> None:
        """Let go of every connection."""
