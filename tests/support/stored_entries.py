"""Stored answers for tests of what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.stored import StoredResponse, UseRules
from sidecar.core.http.heads import Headers, ResponseHead

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Selecting

BORN = 1_000.0
WALL = 1_000_000_000.0
"""Sun, 09 Sep 2001 01:46:40 GMT."""


def headers(**fields: str) -> Headers:
    """A field section; underscores stand for hyphens."""
    return Headers([(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()])


def entry(
    body: bytes = b"0123456789",
    *,
    status: int = 200,
    lifetime: float = 60.0,
    rules: UseRules | None = None,
    selecting: Selecting = (),
    **fields: str,
) -> StoredResponse:
    """An answer stored at `BORN` with age zero, fresh for `lifetime` seconds."""
    return StoredResponse(
        key=b"r http://u/a",
        selecting=selecting,
        head=ResponseHead(status, headers(**fields, Content_Length=str(len(body))), b"OK"),
        body=body,
        born=BORN,
        expires_at=BORN + lifetime,
        keep_until=BORN + lifetime + 3600,
        stored_wall=WALL,
        rules=rules or UseRules(),
        route="r",
        url=b"http://u/a",
        tags=(b"one", b"two"),
    )
