"""Conditional requests in front of a store (RFC 9110 §13, RFC 9111 §4.3): answering the client's, making our own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.core.cache.freshness import date_of
from sidecar.core.http.heads import ResponseHead

if TYPE_CHECKING:
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.core.http.heads import Field, Headers

ORIGIN_PRECONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})
"""Preconditions that only the origin can judge (RFC 9110 §13.1.1, §13.1.4)."""
OUR_PRECONDITIONS = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})
"""What a revalidation replaces by the stored validators, so that its answer is about the whole representation."""
REPRESENTATION_FIELDS = frozenset(
    {
        b"accept-ranges",
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-range",
        b"content-type",
    }
)
"""What a 304 does not repeat, since the client has it (RFC 9110 §15.4.5)."""
NEVER_UPDATED = frozenset({b"content-length", b"content-encoding", b"content-range"})
"""Fields that describe the stored octets, which a 304 does not replace (RFC 9111 §3.2)."""

_ENTITY_TAG = re.compile(rb"(?:W/)?\"[!#-~\x80-\xff]*\"")


def entity_tags(value: bytes) -> list[bytes]:
    """The entity tags that a list of them has."""
    return _ENTITY_TAG.findall(value)


def opaque_tag(tag: bytes) -> bytes:
    """What weak comparison compares (RFC 9110 §8.8.3.2)."""
    return tag.removeprefix(b"W/")


def strong_tag(tag: bytes | None) -> bool:
    """Whether `tag` is there, well-formed and strong."""
    return tag is not None and tag.startswith(b'"') and _ENTITY_TAG.fullmatch(tag) is not None


def not_modified(request: Headers, stored: StoredResponse) -> bool:
    """Whether the client's own precondition makes the answer a 304 (RFC 9110 §13.2.2, RFC 9111 §4.3.2)."""
    if stored.head.status != 200:
        return False
    none_match = request.index.get(b"if-none-match")
    if none_match is not None:
        return _tag_matches(none_match, stored.head.headers.index.get(b"etag"))
    if b"if-modified-since" not in request.index:
        return False
    since = date_of(request, b"if-modified-since", stored.stored_wall)
    return since is not None and _modified(stored) <= since


def _tag_matches(none_match: bytes, etag: bytes | None) -> bool:
    if none_match == b"*":
        return True
    if etag is None:
        return False
    return none_match == etag or opaque_tag(etag) in map(opaque_tag, entity_tags(none_match))


def _modified(stored: StoredResponse) -> float:
    """When it was last modified, or failing that made, or failing that received."""
    for name in (b"last-modified", b"date"):
        date = date_of(stored.head.headers, name, stored.stored_wall)
        if date is not None:
            return date
    return stored.stored_wall


def not_modified_head(stored: StoredResponse) -> ResponseHead:
    """The head of a 304 made from `stored`."""
    return ResponseHead(304, stored.head.headers.without(REPRESENTATION_FIELDS), b"Not Modified")


def validators(stored: StoredResponse) -> list[Field]:
    """The precondition fields that ask whether `stored` is still good; empty when it has no validator."""
    index = stored.head.headers.index
    fields: list[Field] = []
    if b"etag" in index:
        fields.append((b"If-None-Match", index[b"etag"]))
    if date_of(stored.head.headers, b"last-modified", stored.stored_wall) is not None:
        fields.append((b"If-Modified-Since", index[b"last-modified"]))
    return fields


def validates(fresh: Headers, stored: Headers) -> bool:
    """Whether a 304 (or a HEAD's answer) with the fields `fresh` is about what is stored (RFC 9111 §4.3.4)."""
    etag, stored_etag = fresh.index.get(b"etag"), stored.index.get(b"etag")
    if etag is not None:
        return stored_etag is not None and opaque_tag(etag) == opaque_tag(stored_etag)
    modified = fresh.index.get(b"last-modified")
    return modified is None or modified == stored.index.get(b"last-modified", modified)


def contradicts(fresh: Headers, stored: Headers) -> bool:
    """Whether the validators of `fresh` are another representation's than those of `stored`; not when one has none."""
    for name in (b"etag", b"last-modified"):
        new, old = fresh.index.get(name), stored.index.get(name)
        if new is not None and old is not None:
            return opaque_tag(new) != opaque_tag(old)
    return False


def updated(stored: Headers, fresh: Headers) -> Headers:
    """The stored fields with those of a 304 in place of the ones of the same name (RFC 9111 §3.2)."""
    replacing = [field for field in fresh if field[0].lower() not in NEVER_UPDATED]
    return stored.without({name.lower() for name, _ in replacing}).plus(*replacing)
