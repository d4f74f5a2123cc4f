"""Who else may have an answer with which the upstream fails, of those who wait for the same one (cache.md 23).

It is not stored, so nothing here is about freshness; only about whether it was meant for one client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.targeted import effective_directives
from sidecar.core.cache.vary import matches, selecting_values

if TYPE_CHECKING:
    from sidecar.core.cache.request_policy import Asked, RouteRules
    from sidecar.core.cache.stored import Selecting
    from sidecar.core.http import Headers, ResponseHead


def shared_failure(asked: Asked, head: ResponseHead, rules: RouteRules) -> Selecting | None:
    """What tells the requests that may share the answer `head` to `asked` from others; None when nobody may."""
    directives, _ = effective_directives(head.headers, rules.targeted)
    forbidden = directives.private or directives.no_store or b"set-cookie" in head.headers
    if forbidden or _personal(asked.head.headers, rules):
        return None
    return selecting_values(head.headers.index.get(b"vary"), asked.head.headers)


def may_share(selecting: Selecting, request: Headers, rules: RouteRules) -> bool:
    """Whether `request` may have a failing answer that is shared by requests with these selecting values."""
    return matches(selecting, request) and not _personal(request, rules)


def _personal(request: Headers, rules: RouteRules) -> bool:
    return b"cookie" in request and b"cookie" not in rules.credentials_keyed
