"""A recorder of the states that upstream connections enter."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sidecar.adapters.upstream.connection import UpstreamConnection
from sidecar.adapters.upstream.state import FOLLOWS, State

if TYPE_CHECKING:
    from collections.abc import Iterator


class StateRecorder:
    """Stands in the place of the attribute `state`. Holds no connection, so that none lives longer for it."""

    def __init__(self, slot: Any) -> None:
        self._slot = slot
        self._by_id: dict[int, list[State]] = {}
        self.lives: list[list[State]] = []
        """The states of each connection, one after another."""

    def __get__(self, connection: UpstreamConnection, owner: type) -> State:
        state: State = self._slot.__get__(connection, owner)
        return state

    def __set__(self, connection: UpstreamConnection, state: State) -> None:
        self._slot.__set__(connection, state)
        if state is State.CONNECTING:
            self._by_id[id(connection)] = []
            self.lives.append(self._by_id[id(connection)])
        life = self._by_id[id(connection)]
        if not life or life[-1] is not state:
            life.append(state)

    @property
    def transitions(self) -> set[tuple[State, State]]:
        """Every one that was taken."""
        return {step for life in self.lives for step in pairwise(life)}

    @property
    def illegal(self) -> set[tuple[State, State]]:
        """Those that the table does not have."""
        return {(before, after) for before, after in self.transitions if after not in FOLLOWS[before]}


@contextmanager
def recorded_states() -> Iterator[StateRecorder]:
    """Record every connection's states within the block."""
    slot = UpstreamConnection.__dict__["state"]
    recorder = StateRecorder(slot)
    setattr(UpstreamConnection, "state", recorder)  # noqa: B010 - mypy knows it as a slot
    try:
        yield recorder
    finally:
        setattr(UpstreamConnection, "state", slot)  # noqa: B010 - as above
