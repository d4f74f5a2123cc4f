"""Who may have an answer that another request brought, given who asks.

A stored answer is one: what the origin declared about it decides. A failing answer that others wait for as well is the
other kind: it is not stored, so nothing about it is a matter of freshness, only whether it was meant for one client
(cache.md 23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.targeted import effective_directives
from sidecar.core.cache.vary import matches, selecting_values

if TYPE_CHECKING:
    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.http.heads import Headers, ResponseHead

CREDENTIALS = frozenset({b"authorization", b"cookie"})
"""Request fields that say who asks; TLS, and fields that only an application knows, are not among them."""


def may_use(stored: StoredResponse | Draft, request: Headers, rules: RouteRules) -> bool:
    """Whether a request may have `stored`, which matches its Vary, given who asks (cache.md 13, 18).

    Who sends credentials gets only what the origin declared shareable: with Authorization by the rule of RFC 9111 §3.5,
    with cookies by any explicit freshness or by Vary. Credentials that are in the key tell entries apart anyway.
    """
    if stored.rules.shared:
        return True
    index = request.index
    if b"authorization" in index and b"authorization" not in rules.credentials_keyed:
        return False
    if stored.rules.explicit or b"cookie" not in index or b"cookie" in rules.credentials_keyed:
        return True
    return any(name == b"cookie" for name, _ in stored.selecting)


def shared_failure(request: Headers, head: ResponseHead, rules: RouteRules) -> Selecting | None:
    """What tells the requests that may share the failing answer `head` to `request` from others; None: nobody may."""
    directives, _ = effective_directives(head.headers, rules.targeted)
    forbidden = directives.private or directives.no_store or b"set-cookie" in head.headers
    if forbidden or _personal(request, rules):
        return None
    return selecting_values(head.headers.index.get(b"vary"), request)


def may_share(selecting: Selecting, request: Headers, rules: RouteRules) -> bool:
    """Whether `request` may have a failing answer that is shared by requests with these selecting values."""
    return matches(selecting, request) and not _personal(request, rules)


def _personal(request: Headers, rules: RouteRules) -> bool:
    return b"cookie" in request and b"cookie" not in rules.credentials_keyed
