"""Forgetting what an unsafe request has changed (RFC 9111 §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache_key import same_origin_url
from sidecar.core.http import SAFE_METHODS
from sidecar.pipeline.exchange import Source

if TYPE_CHECKING:
    from sidecar.core.cache_key import KeySpace
    from sidecar.core.http import RequestHead
    from sidecar.pipeline.exchange import Response
    from sidecar.pipeline.ports import CacheStore

FIRST_ERROR_STATUS = 400


def invalidate_changed(store: CacheStore, space: KeySpace, head: RequestHead, response: Response) -> None:
    """After a successful answer to an unsafe request, forget its target and what Location and Content-Location name.

    Methods that nobody knows count as unsafe.
    """
    succeeded = response.source is Source.UPSTREAM and response.head.status < FIRST_ERROR_STATUS
    if head.method in SAFE_METHODS or not succeeded:
        return
    url = space.url(head)
    changed = {url}
    for name in (b"location", b"content-location"):
        reference = response.head.headers.get(name)
        named = None if reference is None else same_origin_url(url, reference, head.authority)
        if named is not None:
            changed.add(named)
    for each in changed:
        store.invalidate(space.key_of(each, head.headers))
        if space.key_headers:
            store.purge(url=each)
