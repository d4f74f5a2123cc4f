"""The life of a client connection as one table: in which phase it is, and which phase may follow which, by what event.

What belongs here: the phases and the table. A connection enters a phase in one way, by a write to
`ClientConnection.phase`; tests watch every write and compare it with `FOLLOWS`.

What must never happen: a request is begun while another is being answered (answers leave in the order of requests);
anything but a tunnel is read as HTTP after a switch of protocols; a connection in CLOSING or CLOSED begins anything.

Why it is cheap: a request that comes alone and whole, as nearly all do, costs two attribute writes here, WAITING →
ANSWERING → WAITING. Nothing is called to change the phase, and the table is not read while the sidecar runs.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What a client connection is doing."""

    WAITING = "waiting"
    """No request is here, nor any part of one: it is idle."""
    HEAD = "head"
    """Part of the next request's head has come."""
    QUEUED = "queued"
    """Requests are here. The next one begins when the client has taken enough of the answers before it."""
    ANSWERING = "answering"
    """A request is with the handler, or its answer is being written. More may arrive meanwhile, and is queued."""
    TUNNEL = "tunnel"
    """The protocol was switched: octets pass in both directions, uninterpreted."""
    LINGERING = "lingering"
    """The last answer is written. What the client still sends is dropped until it has had time to read the answer: to
    close at once could reset the connection and take the answer away (RFC 9112 §9.6)."""
    CLOSING = "closing"
    """The transport was told to close, and sends what it still holds, or to abort. What arrives is dropped."""
    CLOSED = "closed"
    """The transport is gone."""


class ClientSide(Enum):
    """How far the client's direction of the connection has come; it goes through these in this order."""

    OPEN = "open"
    """The client may send more."""
    ENDED = "ended"
    """The client has closed its side. Some of what it sent waits to be parsed."""
    ALL_READ = "all read"
    """It has closed its side and all was parsed: what is not whole by now never will be."""


FOLLOWS: dict[Phase, dict[Phase, str]] = {
    Phase.WAITING: {
        Phase.ANSWERING: "a request came, alone",
        Phase.QUEUED: "a request came with others, or while the client had not taken its last answer",
        Phase.HEAD: "part of a head came",
        Phase.CLOSING: "the client closed its side, no request came in time, the sidecar drains or makes room",
        Phase.CLOSED: "the client went away",
    },
    Phase.HEAD: {
        Phase.ANSWERING: "the rest of the head came",
        Phase.QUEUED: "the rest of the head came, and more, or what came can be no request",
        Phase.LINGERING: "the rest of the head did not come in time: 408",
        Phase.CLOSING: "the client closed its side, or the sidecar drains",
        Phase.CLOSED: "the client went away",
    },
    Phase.QUEUED: {
        Phase.ANSWERING: "the client has taken enough of the answers before: the next request begins",
        Phase.LINGERING: "the next is no request: it is refused, and nothing after it is read",
        Phase.CLOSING: "the client took no answer in time, the sidecar drains, or a refusal ends a closed side",
        Phase.CLOSED: "the client went away",
    },
    Phase.ANSWERING: {
        Phase.WAITING: "the answer is written",
        Phase.HEAD: "the answer is written; part of the next head is here",
        Phase.QUEUED: "the answer is written; the next request is here",
        Phase.TUNNEL: "the upstream has switched protocols: 101",
        Phase.LINGERING: "the last answer is written before the client has sent all of its request",
        Phase.CLOSING: "the last answer is written, it broke off, or the client does not take it or may have left",
        Phase.CLOSED: "the client went away",
    },
    Phase.TUNNEL: {
        Phase.LINGERING: "the upstream has said all and takes no more; the client still sends",
        Phase.CLOSING: "both have said all, one of them is gone, or nothing passed for too long",
        Phase.CLOSED: "the client went away",
    },
    Phase.LINGERING: {
        Phase.CLOSING: "the client closed its side, or had its time",
        Phase.CLOSED: "the client went away",
    },
    Phase.CLOSING: {
        Phase.CLOSED: "all is sent, or given up",
    },
    Phase.CLOSED: {},
}
"""For each phase those that may follow it, and the event that leads there."""
