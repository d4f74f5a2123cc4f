"""What the cache keeps of one answer, as an immutable value.

The cache stage makes these and reads them; a store only keeps them, finds them by `key`, and drops them. Everything a
fresh hit needs is worked out once, when the answer is stored: the serialized head, and the two points on the monotonic
clock at which its age was zero and at which it stops being fresh.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from sidecar.core.http.heads import Headers, ResponseHead

Selecting: TypeAlias = tuple[tuple[bytes, bytes | None], ...]
"""Lower-case names that Vary listed and the normalized request values they had (None: absent), sorted by name."""

Plain: TypeAlias = "tuple[str | bytes | int | float | Plain | None, ...]"
"""Nothing but tuples of strings, bytes, numbers and None: what a snapshot file holds."""


class UseRules(NamedTuple):
    """What the response itself says about its use; times in seconds from expiry.

    `strict`: one of must-revalidate, proxy-revalidate, s-maxage or no-cache is in force, so it may not be used stale.
    `always_validate`: no-cache, so not even its fresh life allows use without asking.
    `explicit`: the origin itself gave its freshness, so it means it to be shared by everyone who sends no credentials.
    `shared`: public, s-maxage or must-revalidate, so it may also answer requests with Authorization (RFC 9111 §3.5).
    """

    strict: bool = False
    always_validate: bool = False
    explicit: bool = True
    shared: bool = False
    stale_if_error: float | None = None
    stale_while_revalidate: float | None = None


@lru_cache(maxsize=1024)
def shared_rules(rules: UseRules) -> UseRules:
    """The one instance equal to `rules`: most entries of a store have one of a few."""
    return rules


class Draft(NamedTuple):
    """An answer that is to be stored, whose body is still to come; the fields are those of `StoredResponse`."""

    key: bytes
    selecting: Selecting
    head: ResponseHead
    born: float
    expires_at: float
    keep_until: float
    stored_wall: float
    rules: UseRules
    route: str
    url: bytes
    tags: tuple[bytes, ...]

    def complete(self, body: bytes) -> StoredResponse:
        """The stored answer with its whole body, and that body's length."""
        head, length = self.head, b"%d" % len(body)
        if head.status != HTTPStatus.NO_CONTENT and head.headers.index.get(b"content-length") != length:
            head = ResponseHead(head.status, head.headers.replacing(b"Content-Length", length), head.reason)
        return StoredResponse(
            self.key,
            self.selecting,
            head,
            body,
            self.born,
            self.expires_at,
            self.keep_until,
            self.stored_wall,
            self.rules,
            self.route,
            self.url,
            self.tags,
        )


@dataclass(frozen=True, slots=True, eq=False)
class StoredResponse:
    """One stored answer. Compared by identity; never changed: a refresh makes a new one around the same body.

    key           the primary cache key: everything but Vary
    selecting     what tells it from the other variants of its key; () when the response had no Vary
    head          status, reason and the stored fields: end-to-end ones, without Age, with the body's Content-Length
    body          all of it
    born          monotonic seconds at which its age was zero (RFC 9111 §4.2.3); in the past when it came with an Age
    expires_at    monotonic seconds at which it stops being fresh (§4.2); ≤ `born` when it never was
    keep_until    monotonic seconds after which it can no longer answer anything, not even for a failing upstream
    stored_wall   seconds since 1970 when it was received: only for its own dates, never for freshness
    route, url    where it came from: the route's name; scheme, authority and target as the upstream knows them
    tags          members of Surrogate-Key and Cache-Tag, for purging
    prepared      status line and field lines, each with its CRLF, without the final empty line
    """

    key: bytes
    selecting: Selecting
    head: ResponseHead
    body: bytes
    born: float
    expires_at: float
    keep_until: float
    stored_wall: float
    rules: UseRules
    route: str
    url: bytes
    tags: tuple[bytes, ...] = ()
    prepared: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepared", serialize(self.head))

    def age(self, now: float) -> int:
        """Whole seconds since the origin made or validated it (RFC 9111 §4.2.3)."""
        return max(0, int(now - self.born))

    def ttl(self, now: float) -> int:
        """Whole seconds of freshness left, rounded down; negative once stale (RFC 9211 §2.6)."""
        return int((self.expires_at - now) // 1)


def serialize(head: ResponseHead) -> bytes:
    """Status line and field lines of `head`, without the final empty line."""
    return head.octets


def to_plain(stored: StoredResponse, now: float, wall: float) -> Plain:
    """The form that outlives the process: monotonic times become seconds since 1970."""
    shift = wall - now
    return (
        stored.key,
        stored.selecting,
        stored.head.status,
        stored.head.reason,
        tuple(stored.head.headers),
        stored.body,
        (stored.born + shift, stored.expires_at + shift, stored.keep_until + shift, stored.stored_wall),
        tuple(stored.rules),
        stored.route,
        stored.url,
        stored.tags,
    )


def from_plain(plain: Plain, now: float, wall: float) -> StoredResponse:
    """The answer that `to_plain` wrote, in the times of this process. A wall clock that was set back adds no life.

    Raises ValueError or TypeError when `plain` has another shape.
    """
    key, selecting, status, reason, fields, body, times, rules, route, url, tags = plain
    born, expires_at, keep_until, stored_wall = _floats(times)
    back = max(0.0, stored_wall - wall)
    shift = now - wall - back
    return StoredResponse(
        key=_octets(key),
        selecting=tuple(
            (_octets(name), None if value is None else _octets(value)) for name, value in _pairs(selecting)
        ),
        head=ResponseHead(
            _whole(status),
            Headers([(_octets(name), _octets(value)) for name, value in _pairs(fields)]),
            _octets(reason),
        ),
        body=_octets(body),
        born=born + shift,
        expires_at=expires_at + shift,
        keep_until=keep_until + shift,
        stored_wall=stored_wall,
        rules=_rules(rules),
        route=_text(route),
        url=_octets(url),
        tags=tuple(_octets(tag) for tag in _members(tags)),
    )


def _rules(value: object) -> UseRules:
    *flags, if_error, while_revalidate = _members(value)
    strict, always_validate, explicit, shared = (bool(flag) for flag in flags)
    allowances = (None if seconds is None else _number(seconds) for seconds in (if_error, while_revalidate))
    return shared_rules(UseRules(strict, always_validate, explicit, shared, *allowances))


def _members(value: object) -> list[object]:
    if not isinstance(value, (tuple, list)):
        raise TypeError("not a sequence")
    return list(value)


def _pairs(value: object) -> list[tuple[object, object]]:
    pairs = []
    for member in _members(value):
        first, second = _members(member)
        pairs.append((first, second))
    return pairs


def _octets(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("not bytes")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return float(value)


def _floats(value: object) -> list[float]:
    return [_number(member) for member in _members(value)]
