"""Which of the stored variants a request may have (RFC 9111 §4.1)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from sidecar.core.http.heads import list_members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.core.http.heads import Headers

UNORDERED = frozenset({b"accept-language", b"accept-encoding", b"accept-charset"})
"""Lists whose order and case mean nothing: what is preferred, their weights say (RFC 9110 §12.5)."""

REMEMBERED_OCTETS = 256
"""Length up to which a list's normal form is remembered."""

_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_SEPARATOR = re.compile(rb"[ \t]*,[ \t]*")


def selecting_values(vary: bytes | None, request: Headers) -> Selecting | None:
    """What `request` has of the fields that `vary` names; None when no other request can ever match.

    That is so for `*`, and for a Vary that is not a list of field names.
    """
    if vary is None:
        return ()
    names = sorted(set(list_members(vary)))
    if b"*" in names or not all(_FIELD_NAME.fullmatch(name) for name in names):
        return None
    return tuple([(name, normalized(name, request.index.get(name))) for name in names])


def normalized(name: bytes, value: bytes | None) -> bytes | None:
    """The form of a selecting field's combined value in which equal meanings are equal octets."""
    if value is None or b'"' in value:
        return value
    if name in UNORDERED:
        return _in_order(value) if len(value) <= REMEMBERED_OCTETS else _in_order.__wrapped__(value)
    return _SEPARATOR.sub(b",", value.strip(b" \t"))


@lru_cache(maxsize=256)
def _in_order(value: bytes) -> bytes:
    """The members of a list in the order of their octets; remembered, since clients of a kind all send the same."""
    return b",".join(sorted(list_members(value)))


def matches(selecting: Selecting, request: Headers) -> bool:
    """Whether `request` has the same selecting values."""
    index = request.index
    for name, value in selecting:
        given = index.get(name)
        # What is written as the normal form is its own normal form.
        if given != value and normalized(name, given) != value:
            return False
    return True


def select(variants: Sequence[StoredResponse], request: Headers) -> StoredResponse | None:
    """The variant for `request`, the first of several that match: but one with Vary goes before one without.

    An origin that sometimes omits Vary has merely forgotten to say that the answer depends on the request (§4.1).
    """
    plain = None
    for stored in variants:
        if not stored.selecting:
            plain = plain or stored
        elif matches(stored.selecting, request):
            return stored
    return plain
