"""How long a client may keep a connection waiting: for what it owes, and for what it should read."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from sidecar.pipeline.deadlines import Deadlined

if TYPE_CHECKING:
    from sidecar.adapters.server.context import ServerContext
    from sidecar.pipeline.streams import StreamBody

SLOWEST_BODY = 500
"""Octets per second that content must come at in the long run: trickling earns no more time than that."""


class Awaits(Enum):
    """What the client owes, and so what it means when it does not come in time."""

    NOTHING = 0
    FIRST_HEAD = 1
    HEAD = 2
    NEXT_REQUEST = 3
    BODY = 4
    TUNNEL = 5
    END = 6


NEXT_REQUEST = Awaits.NEXT_REQUEST


class Patience(Deadlined):
    """What a connection waits for, and until when. Of its two deadlines, what the client sends and what it reads, the
    earlier is watched.
    """

    __slots__ = ("_awaits", "_read_until", "_write_until", "context")

    def __init__(self, context: ServerContext) -> None:
        super().__init__()
        self.context = context
        self._awaits = Awaits.NOTHING
        self._read_until = self._write_until = inf

    def expired(self) -> None:
        """One deadline has passed; the other, if any, is watched on."""
        now = self.context.clock.monotonic()
        if self._write_until <= now:
            self._too_slow()
        elif self._read_until <= now:
            self._read_until = inf
            self._too_late(self._awaits)
            self._watch()
        else:
            self._watch()

    def _too_slow(self) -> None:
        """The client has not read in time."""
        raise NotImplementedError

    def _too_late(self, awaited: Awaits) -> None:
        """The client has not sent in time what it owed."""
        raise NotImplementedError

    def _must_read(self, seconds: float) -> None:
        """The client has to make room within `seconds`; it has when they are `inf`."""
        self._write_until = self.context.clock.monotonic() + seconds
        self._watch()

    def _await(self, what: Awaits, seconds: float) -> None:
        self._awaits = what
        self._read_until = self.context.clock.monotonic() + seconds
        self._watch()

    def _await_body(self, body: StreamBody, received: int) -> None:
        if not body.flowing:
            self._await(Awaits.BODY, inf)
        elif self._awaits is not Awaits.BODY or self._read_until == inf:
            self._await(Awaits.BODY, self.context.limits.body_timeout)
        else:
            latest = self.context.clock.monotonic() + self.context.limits.body_timeout
            self._read_until = min(latest, self._read_until + received / SLOWEST_BODY)
            self._watch()

    def _watch(self) -> None:
        self.context.wheel.set(self, min(self._read_until, self._write_until))
