"""Keeping what passes by: a response body on its way to one client, stored when it turns out to be complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.exchange import BodyEnd
from sidecar.pipeline.store_decisions import CUT_SHORT, GIVEN_UP, REFUSED, STORED, TOO_LARGE

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
        body = None if self._pieces is None else b"".join(self._pieces)
        self._pieces = None
        store_body(self._store, self._draft, self._token, body, end)


def store_body(store: CacheStore, draft: Draft, token: WriteToken, body: bytes | None, end: End | None) -> None:
    """Store `draft` with `body` (None: it was not kept) if `end` says that this is all of it; note what came of it."""
    if end is not BodyEnd.COMPLETE:
        why = GIVEN_UP if end is BodyEnd.ABANDONED else CUT_SHORT
    elif body is None:
        why = TOO_LARGE
    else:
        why = STORED if store.put(draft.complete(body), token) else REFUSED
    store.stats.decisions.note(draft.key, draft.route, draft.head.status, why, draft.stored_wall)


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
