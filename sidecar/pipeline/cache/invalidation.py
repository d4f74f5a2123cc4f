"""Forgetting what is no longer true: what an unsafe request has changed (RFC 9111 §4.4), what an answer supersedes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.key import same_origin_url
from sidecar.core.cache.superseding import FIRST_REDIRECTION, replaced, speaks, withdrawn
from sidecar.core.http.heads import SAFE_METHODS
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.key import KeySpace
    from sidecar.core.cache.request_policy import KeyedRequest
    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import Draft, StoredResponse
    from sidecar.core.http.heads import Headers, RequestHead, ResponseHead
    from sidecar.pipeline.message import Response
    from sidecar.pipeline.ports import CacheStore, WriteToken

FIRST_ERROR_STATUS = 400
NAMES_MORE = frozenset({b"location", b"content-location"})
"""Fields of an answer that name what else has changed."""


def invalidate_changed(store: CacheStore, space: KeySpace, head: RequestHead, response: Response) -> None:
    """After a successful answer to an unsafe request, forget its target and what Location and Content-Location name.

    Methods that nobody knows count as unsafe.
    """
    succeeded = response.source is Source.UPSTREAM and response.head.status < FIRST_ERROR_STATUS
    if head.method in SAFE_METHODS or not succeeded:
        return
    store.invalidate(space.key(head))
    if space.key_headers:
        store.purge(url=space.named(space.url(head)))
    if not NAMES_MORE.isdisjoint(response.head.headers.index):
        _invalidate_named(store, space, head, response.head.headers)


def _invalidate_named(store: CacheStore, space: KeySpace, head: RequestHead, answered: Headers) -> None:
    url = space.url(head)
    for name in NAMES_MORE:
        reference = answered.get(name)
        named = None if reference is None else same_origin_url(url, reference, head.authority)
        if named is not None and named != url:
            store.invalidate(space.key_of(named, head.headers))
            if space.key_headers:
                store.purge(url=space.named(named))


def withdraw(store: CacheStore, keyed: KeyedRequest, head: ResponseHead, rules: RouteRules) -> None:
    """Forget what the answer `head` to `keyed`, which is no good answer to be stored, says is no longer true.

    What is still arriving for the same key was made before, and will not be stored; what may be behind the store goes.
    """
    request = keyed.head.headers
    gone = withdrawn(request, head, store.get(keyed.key), rules)
    hidden = keyed.key in store.arriving or keyed.key in store.unread
    if gone or (hidden and speaks(request, head, rules)):
        store.invalidate(keyed.key, gone)


def renewed(store: CacheStore, draft: Draft, token: WriteToken, keyed: KeyedRequest, rules: RouteRules) -> WriteToken:
    """`withdraw` for an answer that may itself be stored, with the token given here unless it has lost already."""
    raced = store.raced(draft, token)
    withdraw(store, keyed, draft.head, rules)
    return token if raced else store.begin(draft.key)


def put_instead(
    store: CacheStore,
    stored: StoredResponse,
    token: WriteToken,
    request: Headers,
    variants: Sequence[StoredResponse],
) -> bool:
    """Store an answer to `request` in the place of those `variants` of its key that could have been given to it; False
    when it was refused.
    """
    if not variants:
        return store.put(stored, token)
    raced = store.raced(stored, token)
    kept = store.put(stored, token)
    if not raced and stored.head.status < FIRST_REDIRECTION:
        gone = replaced(request, stored.selecting if kept else None, variants)
        if gone:
            store.invalidate(stored.key, gone)
    return kept


def outgrown(store: CacheStore, draft: Draft, token: WriteToken, request: Headers) -> None:
    """The answer to `request` came whole and is too large to be kept: what could have been given to it goes."""
    if draft.head.status < FIRST_REDIRECTION and not store.raced(draft, token):
        gone = replaced(request, None, store.get(draft.key))
        if gone:
            store.invalidate(draft.key, gone)
