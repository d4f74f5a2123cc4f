"""What the fleet asks of the store that its sidecars share; `adapters/redis` implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.core.fleet.messages import (
        FleetView,
        Heard,
        LeaseAnswer,
        LeaseWish,
        News,
        Push,
        Record,
        Verdict,
        Version,
        Word,
    )


class StoreUnavailable(Exception):
    """The store did not do what it was asked. `kind` is the label under which it is counted."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class FleetStore(Protocol):
    """The state that the sidecars of a fleet share.

    Every call ends within its deadline, or raises StoreUnavailable; it is atomic, and goes by the store's own time.
    """

    async def version(self) -> Version | None:
        """The version of everything; None when the store has none."""

    async def push(self, push: Push) -> News:
        """Say what is new here, and hear what is new."""

    async def lease(self, wish: LeaseWish) -> LeaseAnswer:
        """Ask for leave to probe."""

    async def verdict(self, verdict: Verdict) -> Record:
        """Say how a probe ended; what has become of the circuit."""

    async def close_circuit(self, circuit: str, round_: int, detail: str) -> Record:
        """Close the fleet's circuit, because an operator reset it."""

    async def say(self, word: Word) -> Word:
        """Say an operator's word to all. A `stamp` of 0: it is said now; what holds afterwards."""

    async def view(self, circuits: Iterable[tuple[str, float]]) -> FleetView:
        """The fleet, and these circuits of it, each with the seconds of its pool's buckets."""

    async def leave(self, circuits: Iterable[str], leases: Iterable[tuple[str, str]]) -> None:
        """This sidecar is no member any more, its votes and leases are void."""

    async def listen(self, heard: Callable[[Heard], None]) -> None:
        """Tell `heard` of everything that is told to all, for as long as the task lives, whatever happens."""

    async def close(self) -> None:
        """Let go of every connection."""
