"""Watches every phase that a client connection enters."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from sidecar.adapters.server.connection import ClientConnection
from sidecar.adapters.server.phases import FOLLOWS, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Step: TypeAlias = tuple[Phase, Phase]

LEGAL: frozenset[Step] = frozenset((before, after) for before, followers in FOLLOWS.items() for after in followers)


@contextmanager
def watched(told: Callable[[Step], object]) -> Iterator[None]:
    """Tell of each step that any client connection takes from one phase to another."""
    slot: Any = ClientConnection.__dict__["phase"]

    def enter(connection: ClientConnection, phase: Phase) -> None:
        try:
            before = slot.__get__(connection)
        except AttributeError:
            assert phase is Phase.WAITING, f"a connection begins in {phase}"
        else:
            told((before, phase))
        slot.__set__(connection, phase)

    setattr(ClientConnection, "phase", property(slot.__get__, enter))  # noqa: B010 - mypy knows a slot only
    try:
        yield
    finally:
        setattr(ClientConnection, "phase", slot)  # noqa: B010
