"""Stored answers for tests of what keeps them, and a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.stored import StoredResponse, UseRules
from sidecar.core.http.heads import Headers, ResponseHead

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Selecting


class StillClock:
    """A `Clock` that moves only when a test says so."""

    def __init__(self, now: float = 1000.0, wall: float = 1_764_000_000.0) -> None:
        self.now = now
        self.time = wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.time


def answer(
    number: int = 0,
    *,
    body: bytes = b"body",
    selecting: Selecting = (),
    route: str = "catalog",
    tags: tuple[bytes, ...] = (),
    keep_until: float = 1e6,
    url: bytes | None = None,
) -> StoredResponse:
    """The answer to the request for item `number`."""
    url = b"http://catalog.svc:8080/items/%d" % number if url is None else url
    fields = [(b"Content-Type", b"text/plain"), (b"ETag", b'"%d"' % number), (b"Content-Length", b"%d" % len(body))]
    return StoredResponse(
        key=b"G " + route.encode() + b" " + url,
        selecting=selecting,
        head=ResponseHead(200, Headers(fields), b"OK"),
        body=body,
        born=900.0,
        expires_at=1100.0,
        keep_until=keep_until,
        stored_wall=1_763_999_900.0,
        rules=UseRules(stale_if_error=60.0),
        route=route,
        url=url,
        tags=tags,
    )


def language(name: bytes | None) -> Selecting:
    """What selects the variant for this Accept-Language."""
    return ((b"accept-language", name),)
