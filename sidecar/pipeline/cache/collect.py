"""Keeping what passes by: a response body on its way to one client, stored when it turns out to be complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecar.pipeline.cache.invalidation import outgrown, put_instead
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.message import BodyEnd
from sidecar.pipeline.store_decisions import CUT_SHORT, GIVEN_UP, REFUSED, STORED, TOO_LARGE

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Draft
    from sidecar.core.http.heads import Headers
    from sidecar.pipeline.message import Body, End
    from sidecar.pipeline.ports import CacheStore, WriteToken


class Storing(NamedTuple):
    """An answer that is to be stored: all but its body, the token of its fetch, and the fields of its request."""

    draft: Draft
    token: WriteToken
    request: Headers


class Collector:
    """Collects a body's pieces up to `limit` octets; beyond that it forgets them and stores nothing (cache.md 15)."""

    __slots__ = ("_limit", "_pieces", "_size", "_store", "_storing")

    def __init__(self, store: CacheStore, storing: Storing, limit: int) -> None:
        self._store = store
        self._storing = storing
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] | None = []

    def watch(self, body: Body) -> None:
        """Take what is read of `body` from now on, which must be all of it."""
        announce(self._store, self._storing)
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
        store_body(self._store, self._storing, body, end)


def announce(store: CacheStore, storing: Storing) -> None:
    """The answer is on its way; `store_body` is its end."""
    key = storing.draft.key
    store.arriving[key] = store.arriving.get(key, 0) + 1


def store_body(store: CacheStore, storing: Storing, body: bytes | None, end: End | None) -> None:
    """Store it with `body` (None: it was not kept) if `end` says that this is all of it; note what came of it."""
    draft, token, request = storing
    _arrived(store, draft.key)
    if end is not BodyEnd.COMPLETE:
        why = GIVEN_UP if isinstance(end, BodyEnd) else CUT_SHORT
    elif body is None:
        why = TOO_LARGE
        outgrown(store, draft, token, request)
    else:
        why = STORED if put_instead(store, draft.complete(body), token, request, store.get(draft.key)) else REFUSED
    store.stats.decisions.note(draft.key, draft.route, draft.head.status, why, draft.stored_wall)


def _arrived(store: CacheStore, key: bytes) -> None:
    others = store.arriving.pop(key) - 1
    if others:
        store.arriving[key] = others


async def drain_quietly(body: bytes | Body, limit: int) -> None:
    """`drain` of an answer that was replaced."""
    try:
        await drain(body, limit)
    except ProxyError:
        # The circuit has heard of it; the client has its answer.
        return


async def drain(body: bytes | Body, limit: int) -> None:
    """Read `body`, which no client waits for, to its end or beyond `limit` octets, so that the circuit learns how the
    request ended. Raises ProxyError when it is cut short.
    """
    if isinstance(body, bytes):
        return
    size = 0
    try:
        while size <= limit and (piece := await body.read()):
            size += len(piece)
    except BaseException:
        body.close()
        raise
    body.close(BodyEnd.DISCARDED)
