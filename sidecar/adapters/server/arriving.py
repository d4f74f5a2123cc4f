"""One request as it arrives, or what can be told of octets that are none.

What belongs here: what the reader hands over, as plain values. Nothing here parses more than a first line for the log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.http.heads import RequestHead
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.streams import StreamBody

_FIRST_LINE = re.compile(rb"[\r\n]*([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32})(?: +([^ \r\n]*))?(?: |\r|$)")
LONGEST_SHOWN = 1024
"""Octets of a target that are logged when there is no request to it."""


class ArrivingRequest:
    """A head, and content that gathers in `pieces` until a `body` takes over.

    `length`: declared octets of content, 0 for none, None when chunked. `error`: why it can be no request, or why its
    content broke off. `upgrade`: the protocol to ask the upstream for, or b"". `request_id`: the client's own, or b"".
    """

    __slots__ = (
        "body", "complete", "error", "expects_continue", "head", "keep_alive", "length", "pieces",
        "request_id", "upgrade",
    )  # fmt: skip

    def __init__(
        self, head: RequestHead | None, length: int | None = 0, *, keep_alive: bool = False, complete: bool = False
    ) -> None:
        self.head = head
        self.length = length
        self.keep_alive = keep_alive
        self.pieces: list[bytes] = []
        self.body: StreamBody | None = None
        self.complete = complete
        self.expects_continue = False
        self.upgrade = b""
        self.error: ProxyError | None = None
        self.request_id = b"" if head is None else head.headers.index.get(b"x-request-id", b"")

    @property
    def first_line(self) -> tuple[str, bytes]:
        """Method and target, for the log."""
        return ("", b"") if self.head is None else (self.head.method, self.head.target)

    def feed(self, piece: bytes) -> None:
        """Content has come."""
        if self.body is None:
            self.pieces.append(piece)
        else:
            self.body.feed(piece)

    def finish(self, error: ProxyError | None = None) -> None:
        """The content is whole, or `error` says why it never will be."""
        self.complete = error is None
        self.error = error
        if self.body is not None:
            self.body.feed_end(error)


class UnreadableRequest(ArrivingRequest):
    """Octets that are no request, for the reason `error`: what can be read of their first line."""

    __slots__ = ("_first_line",)

    def __init__(self, error: ProxyError, first_line: tuple[str, bytes]) -> None:
        super().__init__(None)
        self.error = error
        self._first_line = first_line

    @property
    def first_line(self) -> tuple[str, bytes]:
        """Method and target as far as they could be read, else "" and b""; for the log."""
        return self._first_line


def first_line(head: bytes) -> tuple[str, bytes]:
    """Method and target of a head that is not whole or not valid, as far as they can be told; only for the log."""
    found = _FIRST_LINE.match(head)
    return ("", b"") if found is None else (found[1].decode("ascii"), (found[2] or b"")[:LONGEST_SHOWN])
