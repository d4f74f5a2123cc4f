"""Requests that nothing but their identifiers tell apart: the same to whoever answers from memory.

Instrumented clients give every request trace fields of its own. No decision reads those, so with them left out a head
may well be one that was read before. What goes upstream is never made of that: a request that memory does not answer
is read as it came.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sidecar.adapters.server.incoming import Incoming
from sidecar.adapters.server.request import END_OF_HEAD, RequestReader
from sidecar.pipeline.errors import ClientGone
from sidecar.pipeline.memo import LARGEST, Memo

if TYPE_CHECKING:
    from sidecar.core.config import ClientLimits

IDENTIFIERS = frozenset(
    {
        b"b3",
        b"baggage",
        b"elastic-apm-traceparent",
        b"newrelic",
        b"sentry-trace",
        b"traceparent",
        b"tracestate",
        b"uber-trace-id",
        b"x-amzn-trace-id",
        b"x-b3-flags",
        b"x-b3-parentspanid",
        b"x-b3-sampled",
        b"x-b3-spanid",
        b"x-b3-traceid",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-datadog-origin",
        b"x-datadog-parent-id",
        b"x-datadog-sampling-priority",
        b"x-datadog-tags",
        b"x-datadog-trace-id",
        b"x-request-id",
    }
)
"""Lower-case names of the fields that tracing systems and their users tell requests apart by."""
LONGEST = 2 * LARGEST
"""Octets of a head, with its identifiers."""
FRAME_LINES = 2
"""Lines of a head that are no field: the first and the empty one."""
_REQUEST_ID = re.compile(rb"\r\n(?i:x-request-id):[ \t]*([^\r]*)")
_CR = 0x0D


class Alike(NamedTuple):
    """A request that was read before without its identifiers, and the id of the one that is like it, or b""."""

    request: Incoming
    request_id: bytes


class Likeness:
    """Heads without their identifiers. `read` are the lower-case names of fields that answers may depend on, although
    they are identifiers.
    """

    __slots__ = ("_identifiers", "_limits", "_memo")

    def __init__(self, limits: ClientLimits, read: frozenset[bytes] = frozenset()) -> None:
        self._limits = limits
        self._memo: Memo[Incoming] = Memo()
        names = b"|".join(map(re.escape, sorted(IDENTIFIERS - read - {b"x-request-id"}))) or b"(?!)"
        # An id that may be written down as it is; one that may not is left to the reader.
        request_id = b"" if b"x-request-id" in read else rb"|x-request-id:[ \t]*[0-9A-Za-z._:/+=-]+"
        self._identifiers = re.compile(rb"\r\n(?i:(?:%b):[ \t!-~]*%b)(?=\r\n)" % (names, request_id))

    def find(self, octets: bytes) -> Alike | None:
        """What is known of the request that `octets` are but for their identifiers.

        The octets are that request's head and nothing else, as certainly as if they had been read.
        """
        size, limits = len(octets), self._limits
        if size > LONGEST or size > limits.head_size or octets.find(END_OF_HEAD) != size - len(END_OF_HEAD):
            return None
        rest, identifiers = self._identifiers.subn(b"", octets)
        if not identifiers or octets.count(b"\r\n") - FRAME_LINES > limits.header_count:
            return None
        request = self._memo.get(rest)
        if request is None:
            if self._memo.recurs(rest):
                self._learn(rest)
            return None
        ids = _REQUEST_ID.findall(octets)
        if len(ids) > 1:
            return None
        return Alike(request, request.request_id or (ids[0] if ids else b""))

    def _learn(self, octets: bytes) -> None:
        """Read `octets`, and remember them if they are a whole plain request."""
        if octets[0] == _CR:
            return
        reader = RequestReader(self._limits, Memo())
        reader.feed(octets)
        if len(reader.arrived) == 1 and not reader.partial and reader.arrived[0].plain:
            head = reader.arrived[0].head
            assert head is not None
            self._memo.add(octets, Incoming.whole(head))
        reader.close(ClientGone())
