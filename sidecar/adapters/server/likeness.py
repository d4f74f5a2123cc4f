"""Requests that nothing but their identifiers tell apart: the same to routes, and to whoever answers from memory.

Instrumented clients give every request trace fields of its own. No decision reads those, so with them left out a head
may well be one that was read before. Upstream each goes with its own, in their places.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sidecar.adapters.server.incoming import Incoming
from sidecar.adapters.server.request import END_OF_HEAD, RequestReader
from sidecar.core.http import Headers, RequestHead
from sidecar.pipeline.errors import ClientGone
from sidecar.pipeline.memo import LARGEST, Memo

if TYPE_CHECKING:
    from sidecar.core.config import ClientLimits
    from sidecar.core.http import Field

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
MOST_MISSES = 16
"""Heads in a row that are not known, after which only one in `PAUSE` is tried: looking has its price."""
PAUSE = 64
_REQUEST_ID = re.compile(rb"\r\n(?i:x-request-id):[ \t]*([^\r]*)")
_CR = 0x0D


class Known(NamedTuple):
    """A request without its identifiers, and the field that each of its field lines was read as."""

    request: Incoming
    head: RequestHead
    lines: dict[bytes, Field]


class Alike(NamedTuple):
    """What is known of the request that `octets` are, and its id, or b""."""

    known: Known
    request_id: bytes
    octets: bytes

    def head(self) -> RequestHead | None:
        """The request's own head, with its identifiers; None when a field is not to be had without reading it."""
        known = self.known.head
        lines, fields, index = self.known.lines, [], known.headers.index.copy()
        for line in self.octets[: -len(END_OF_HEAD)].split(b"\r\n")[1:]:
            field = lines.get(line)
            if field is None:
                name, _, value = line.partition(b":")
                key = name.lower()
                if key in index:
                    return None
                field = name, value.strip(b" \t")
                index[key] = field[1]
            fields.append(field)
        headers = Headers(fields, index)
        method, target, authority = known.method, known.target, known.authority
        return RequestHead(
            method, target, headers, authority, known.minor_version, known.absolute_form, None, known.plan
        )


class Likeness:
    """Heads without their identifiers. `read` are the lower-case names of fields that answers may depend on, although
    they are identifiers.
    """

    __slots__ = ("_identifiers", "_limits", "_memo", "_misses", "_pause")

    def __init__(self, limits: ClientLimits, read: frozenset[bytes] = frozenset()) -> None:
        self._limits = limits
        self._memo: Memo[Known] = Memo()
        self._misses = self._pause = 0
        names = b"|".join(map(re.escape, sorted(IDENTIFIERS - read - {b"x-request-id"}))) or b"(?!)"
        # An id that may be written down as it is; one that may not is left to the reader.
        request_id = b"" if b"x-request-id" in read else rb"|x-request-id:[ \t]*[0-9A-Za-z._:/+=-]+"
        self._identifiers = re.compile(rb"\r\n(?i:(?:%b):[ \t!-~]*%b)(?=\r\n)" % (names, request_id))

    def find(self, octets: bytes) -> Alike | None:
        """What is known of the request that `octets` are but for their identifiers.

        The octets are that request's head and nothing else, as certainly as if they had been read.
        """
        if self._pause:
            self._pause -= 1
            return None
        found = self._find(octets)
        if found is not None:
            self._misses = 0
            return found
        self._misses += 1
        if self._misses >= MOST_MISSES:
            self._pause = PAUSE
        return None

    def _find(self, octets: bytes) -> Alike | None:
        size, limits = len(octets), self._limits
        if size > LONGEST or size > limits.head_size or octets.find(END_OF_HEAD) != size - len(END_OF_HEAD):
            return None
        rest, identifiers = self._identifiers.subn(b"", octets)
        if not identifiers or octets.count(b"\r\n") - FRAME_LINES > limits.header_count:
            return None
        known = self._memo.get(rest)
        if known is None:
            if self._memo.recurs(rest):
                self._learn(rest)
            return None
        ids = _REQUEST_ID.findall(octets)
        if len(ids) > 1:
            return None
        return Alike(known, known.request.request_id or (ids[0] if ids else b""), octets)

    def _learn(self, octets: bytes) -> None:
        """Read `octets`, and remember them if they are a whole plain request."""
        if octets[0] == _CR:
            return
        reader = RequestReader(self._limits, Memo())
        reader.feed(octets)
        if len(reader.arrived) == 1 and not reader.partial and reader.arrived[0].plain:
            head = reader.arrived[0].head
            assert head is not None
            lines = octets[: -len(END_OF_HEAD)].split(b"\r\n")[1:]
            self._memo.add(octets, Known(Incoming.whole(head), head, dict(zip(lines, head.headers, strict=True))))
        reader.close(ClientGone())
