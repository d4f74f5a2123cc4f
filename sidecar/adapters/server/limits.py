"""Which limit a malformed head exceeds before it goes wrong.

llhttp tells of a target when it ends, of a field when the next one begins, and of either sooner where a piece of the
head ends. So when one piece holds both a target that is too long and the octet that makes it invalid, it tells of the
latter only. What a client gets must not depend on how its octets were cut: a limit counts when it is exceeded first.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import httptools

from sidecar.pipeline.errors import HeadTooLarge, TargetTooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import ClientLimits
    from sidecar.pipeline.errors import ProxyError

TARGET_TOO_LONG = "the request target is too long"
TOO_MANY_FIELDS = "the request has too many header fields"


def exceeded_limit(head: bytes, limits: ClientLimits) -> ProxyError | None:
    """What would have been refused before the octet at which llhttp gave up on `head`; None when nothing would."""
    gauge = _Gauge(limits)
    parser = httptools.HttpRequestParser(gauge)
    with suppress(httptools.HttpParserError):
        for piece in _pieces(head, limits.target_size):
            parser.feed_data(piece)
            if gauge.exceeded is not None:
                break
    return gauge.exceeded


def _pieces(head: bytes, target_size: int) -> Iterator[bytes]:
    """Each piece ends where the target becomes too long, or with the octet that tells llhttp of another field."""
    places = {0, len(head), min(len(head), head.find(b" ") + target_size + 2)}
    end_of_line = head.find(b"\n")
    while 0 <= end_of_line < len(head) - 2:
        places.add(end_of_line + 2)
        end_of_line = head.find(b"\n", end_of_line + 1)
    for start, end in pairwise(sorted(places)):
        yield head[start:end]


class _Gauge:
    """Measures what llhttp tells of."""

    def __init__(self, limits: ClientLimits) -> None:
        self.exceeded: ProxyError | None = None
        self._limits = limits
        self._target_size = 0
        self._field_count = 0

    def on_url(self, part: bytes) -> None:
        self._target_size += len(part)
        if self._target_size > self._limits.target_size:
            self.exceeded = TargetTooLong(TARGET_TOO_LONG)

    def on_header(self, _name: bytes, _value: bytes) -> None:
        self._field_count += 1
        if self._field_count > self._limits.header_count:
            self.exceeded = HeadTooLarge(TOO_MANY_FIELDS)
