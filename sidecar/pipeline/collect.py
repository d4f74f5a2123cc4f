"""Keeping what passes by: a response body on its way to one client, stored when it turns out to be complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.exchange import BodyEnd

if TYPE_CHECKING:
    from sidecar.core.stored import Draft
    from sidecar.pipeline.exchange import Body, End
    from sidecar.pipeline.ports import CacheStore, WriteToken


class Collector:
    """Collects a body's pieces up to `limit` octets; beyond that it forgets them and stores nothing (cache.md 15)."""

    __slots__ = ("_draft", "_limit", "_pieces", "_size", "_store", "_token")

    def __init__(self, store: CacheStore, draft: Draft, token: WriteToken, limit: int) -> None:
        self._store = store
        self._draft = draft
        self._token = token
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] | None = []

    def watch(self, body: Body) -> None:
        """Take what is read of `body` from now on, which must be all of it."""
        body.on_piece(self._take)
        body.on_end(self._finish)

    def _take(self, piece: bytes) -> None:
        if self._pieces is None:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self._pieces = None
        else:
            self._pieces.append(piece)

    def _finish(self, end: End) -> None:
        if end is BodyEnd.COMPLETE and self._pieces is not None:
            self._store.put(self._draft.complete(b"".join(self._pieces)), self._token)
        self._pieces = None


async def drain(body: bytes | Body, limit: int) -> None:
    """Read `body` to its end, so that whoever waits for that learns how it went; given up after `limit` octets.

    Raises ProxyError when it is cut short.
    """
    if isinstance(body, bytes):
        return
    size = 0
    try:
        while size <= limit and (piece := await body.read()):
            size += len(piece)
    finally:
        body.close()
