"""Which stored answers a new one takes the place of, so that what was withdrawn does not come back (cache.md 11).

Any final answer below 500 to a GET says how things are now: what is stored under the same key is then history, whether
the new answer may be stored or not. Three kinds say nothing against it: those that only ask for patience (408, 425,
429) or that the route counts as failures; those about what the client alone sent and the key does not know; and a 401
or 403 to a request with credentials of its own, as long as others may use what is stored.

"Under the same key" means the primary key and, of its variants (RFC 9111 §4.1):

- a good answer that is stored takes the place of what its own request could have been given, and of nothing else;
- any other answer speaks for all variants, unless its own Vary names a field for which a variant has another value.
  Accept-Encoding does not count there: a coding of something that is gone is gone as well. A 406, and an answer with
  `Vary: *`, are about what this one request accepts, so about what it could have been given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import ORIGIN_PRECONDITIONS, OUR_PRECONDITIONS, contradicts
from sidecar.core.cache.sharing import CREDENTIALS, may_use
from sidecar.core.cache.targeted import effective_directives
from sidecar.core.cache.vary import matches, selecting_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.core.http.heads import Headers, ResponseHead

FIRST_REDIRECTION = 300
FIRST_ERROR = 500
ASKS_FOR_PATIENCE = frozenset({408, 425, 429})
REFUSALS = frozenset({401, 403})
ABOUT_A_COPY_OR_PART = frozenset({206, 304, 412, 416})
"""Statuses with which a precondition or a range is answered, neither of which is in the key."""
PRECONDITIONS = OUR_PRECONDITIONS | ORIGIN_PRECONDITIONS
ABOUT_THE_SIZE = frozenset({400, 413, 431})
NOT_ACCEPTABLE = 406
LARGE_FIELDS = 4096
"""Octets of request fields beyond which an error may be about their size: every server takes that many."""


def has_large_fields(request: Headers) -> bool:
    """Whether some server may find the fields of `request` too large."""
    return sum(len(name) + len(value) for name, value in request) > LARGE_FIELDS


def settled(status: int, rules: RouteRules) -> bool:
    """Whether `status` says how the resource is, rather than that it cannot be had now."""
    return status < FIRST_ERROR and status not in ASKS_FOR_PATIENCE and status not in rules.failures


def replaces(request: Headers, status: int, standing: StoredResponse, rules: RouteRules) -> bool:
    """Whether an answer to `request` with `status`, which may be stored, may take the place of `standing`."""
    if not settled(standing.head.status, rules):
        return True
    if not settled(status, rules):
        return False
    return status not in REFUSALS or standing.head.status in REFUSALS or _refuses(request, standing, rules)


def replaced(request: Headers, selecting: Selecting | None, variants: Sequence[StoredResponse]) -> list[Selecting]:
    """Which of `variants` go, besides the one with this `selecting`, when a good answer to `request` is whole here."""
    return [each.selecting for each in variants if each.selecting != selecting and matches(each.selecting, request)]


def withdrawn(
    request: Headers, head: ResponseHead, variants: Sequence[StoredResponse], rules: RouteRules
) -> list[Selecting]:
    """Which of `variants`, all of one key, are withdrawn by the answer `head` to a GET with the fields `request`.

    `head` is a redirection or an error, or is not stored although it is a good answer.
    """
    if not speaks(request, head, rules):
        return []
    return [each.selecting for each in variants if _about(request, head, each) and _against(request, head, each, rules)]


def speaks(request: Headers, head: ResponseHead, rules: RouteRules) -> bool:
    """Whether the answer `head` can say anything against stored ones."""
    if not settled(head.status, rules):
        return False
    return head.status not in ABOUT_THE_SIZE or not has_large_fields(request)


def _about(request: Headers, head: ResponseHead, stored: StoredResponse) -> bool:
    """Whether the answer `head` to `request` speaks for the variant `stored`."""
    if not stored.selecting:
        return True
    selecting = selecting_values(head.headers.index.get(b"vary"), request)
    if selecting is None or head.status == NOT_ACCEPTABLE:
        return matches(stored.selecting, request)
    values = dict(stored.selecting)
    return all(values.get(name, value) == value for name, value in selecting if name != b"accept-encoding")


def _against(request: Headers, head: ResponseHead, stored: StoredResponse, rules: RouteRules) -> bool:
    """Whether it says that `stored`, which it speaks for, is no longer true."""
    if head.status in REFUSALS:
        return _refuses(request, stored, rules)
    if head.status < FIRST_REDIRECTION and not may_use(stored, request, rules):
        # What somebody with credentials gets is another answer than the one that is stored for everybody else.
        return False
    if head.status in ABOUT_A_COPY_OR_PART and not PRECONDITIONS.isdisjoint(request.index):
        return _forbids_storing(head, rules) or contradicts(head.headers, stored.head.headers)
    return True


def _refuses(request: Headers, stored: StoredResponse, rules: RouteRules) -> bool:
    """Whether a 401 or 403 to `request` is about `stored`: nobody in particular asked, or who alone may use it."""
    own = CREDENTIALS.intersection(request.index)
    if not own:
        return True
    told_apart = rules.credentials_keyed | {name for name, _ in stored.selecting}
    return not own.isdisjoint(told_apart) and matches(stored.selecting, request)


def _forbids_storing(head: ResponseHead, rules: RouteRules) -> bool:
    directives, _ = effective_directives(head.headers, rules.targeted)
    return directives.no_store or directives.private
