"""The states of an upstream connection, and which may follow which.

Belongs here: the table, nothing that acts on it. `connection` says what happens in each state. A connection enters a
state by a plain attribute write; the tests record those writes and hold them against `FOLLOWS`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """What a connection is doing. The exchange is under way in those that `UNDER_WAY` lists."""

    CONNECTING = "the transport does not stand yet"
    IDLE = "it stands and carries no exchange"
    SENDING = "the request's head is sent, its body is being sent, the response's head has not come"
    WAITING = "the request is sent whole, the response's head has not come"
    EARLY = "the response's head has come although the request's body is still being sent"
    RECEIVING = "the request is sent whole and the response's body is being received"
    TUNNEL = "the protocol was switched: octets pass both ways"
    CLOSING = "this side has ended it, and the transport has not told its end yet"
    CLOSED = "the transport is gone"


# On the path of each request a global name is cheaper than a member of an Enum.
CONNECTING: Final = State.CONNECTING
IDLE: Final = State.IDLE
SENDING: Final = State.SENDING
WAITING: Final = State.WAITING
EARLY: Final = State.EARLY
RECEIVING: Final = State.RECEIVING
TUNNEL: Final = State.TUNNEL
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED

UNDER_WAY = (WAITING, RECEIVING, SENDING, EARLY, TUNNEL)
"""An exchange is under way, and nobody else may use the connection."""

FOLLOWS: dict[State, frozenset[State]] = {
    CONNECTING: frozenset({IDLE, CLOSED}),
    # CLOSED: the upstream has ended it, or sent what nobody had asked for.
    IDLE: frozenset({SENDING, WAITING, CLOSING, CLOSED}),
    # Never IDLE: the upstream would take the rest of the body for a request.
    SENDING: frozenset({WAITING, EARLY, CLOSING}),
    # IDLE at once: the whole response came with its head.
    WAITING: frozenset({IDLE, RECEIVING, TUNNEL, CLOSING}),
    EARLY: frozenset({RECEIVING, CLOSING}),
    RECEIVING: frozenset({IDLE, CLOSING}),
    TUNNEL: frozenset({CLOSING}),
    CLOSING: frozenset({CLOSED}),
    CLOSED: frozenset(),
}
"""What a state may be followed by."""
