"""A stored answer as two plain byte strings, the form in which a million of them weigh little.

A live `StoredResponse` is some sixty objects, five of them tracked by the garbage collector, whose full pass over a
large store of such would stop the process for a second. A packed one is its body and a record, tracked by nobody.
Records never leave the process: what a file holds is `stored.to_plain`.
"""

from __future__ import annotations

import marshal
from typing import TypeAlias

from sidecar.core.cache.stored import Selecting, StoredResponse, UseRules, shared_rules
from sidecar.core.http.heads import Headers, ResponseHead

Identity: TypeAlias = tuple[bytes, Selecting, bytes, tuple[bytes, ...]]
"""Key, selecting values, URL, tags."""

OBJECT_HEADER = 33
"""Bytes of a `bytes` object besides its content."""
SMALL_OBJECT = 512
"""What is larger than this is not the object allocator's but malloc's, which adds a header and keeps holes."""
HOLES_SHARE = 32
"""Measured: one byte in so many is lost between objects of mixed sizes that come and go."""
ENTRY_OVERHEAD = 280
"""Measured: the share of tables, columns and the slot number of one entry, in bytes."""
LIVE_OVERHEAD = 736
LIVE_FIELD_OVERHEAD = 240


def pack(stored: StoredResponse) -> bytes:
    """All of `stored` but its body and its route.

    In one piece, because the allocator keeps holes between pieces of a record that are joined: a quarter of the memory.
    """
    head = stored.head
    identity = (stored.key, stored.selecting, stored.url, stored.tags)
    times = (stored.born, stored.expires_at, stored.keep_until, stored.stored_wall)
    return marshal.dumps((identity, head.status, head.reason, tuple(head.headers.fields), times, tuple(stored.rules)))


def identify(record: bytes) -> Identity:
    """What `record` is known by; much cheaper than `unpack`."""
    identity: Identity = marshal.loads(record)[0]  # noqa: S302 - `pack` made it, in this process
    return identity


def unpack(record: bytes, body: bytes, route: str) -> StoredResponse:
    """The answer that `pack` took apart."""
    identity, status, reason, fields, times, rules = marshal.loads(record)  # noqa: S302 - as above
    key, selecting, url, tags = identity
    born, expires_at, keep_until, stored_wall = times
    return StoredResponse(
        key=key,
        selecting=selecting,
        head=ResponseHead(status, Headers(fields), reason),
        body=body,
        born=born,
        expires_at=expires_at,
        keep_until=keep_until,
        stored_wall=stored_wall,
        rules=shared_rules(UseRules(*rules)),
        route=route,
        url=url,
        tags=tags,
    )


def packed_size(stored: StoredResponse, record: bytes) -> int:
    """Bytes of memory that the packed answer takes, with its share of a store's tables; without its tags."""
    return ENTRY_OVERHEAD + object_size(stored.body) + object_size(record) + object_size(stored.key)


def live_size(stored: StoredResponse) -> int:
    """Bytes of memory that the live answer takes besides its body, about."""
    text = len(stored.prepared) * 5 // 2 + len(stored.key) + len(stored.url)
    return LIVE_OVERHEAD + LIVE_FIELD_OVERHEAD * len(stored.head.headers) + text


def object_size(octets: bytes) -> int:
    """Bytes of memory behind `octets`, rounded as the allocators do."""
    size = len(octets) + OBJECT_HEADER
    if size > SMALL_OBJECT:
        size += 8 + size // HOLES_SHARE
    return (size + 15) & ~15
