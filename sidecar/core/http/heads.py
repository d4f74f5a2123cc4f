"""HTTP message heads as values (RFC 9110 §5–6, RFC 9112 §2–5).

Heads only: bodies never enter the core. Field names and values stay the bytes that were received, in their
order, with their case and their repeats; look-ups are case-insensitive and see repeats combined.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

Field: TypeAlias = tuple[bytes, bytes]
"""One field line: name as received, value without surrounding white space."""

STANDARD_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that ask for no change (RFC 9110 §9.2.1)."""
IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}
"""Methods that may be sent twice (RFC 9110 §9.2.2)."""
_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
"""Python 3.11 and 3.12 still have the names from before RFC 9110 §15."""


def reason_phrase(status: int) -> str:
    """The name of a registered status, the same under every Python."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase


PHRASES = {status.value: reason_phrase(status).encode() for status in HTTPStatus}


class Headers:
    """An immutable field section: ordered field lines, and a case-insensitive index of them, made where it is not
    given. `index`: lower-case name → combined value (RFC 9110 §5.3).
    """

    __slots__ = ("fields", "index")

    def __init__(self, fields: Iterable[Field] = (), index: dict[bytes, bytes] | None = None) -> None:
        self.fields = fields if type(fields) is list else list(fields)
        if index is None:
            index = {}
            for name, value in self.fields:
                key = name.lower()
                if key in index:
                    index[key] += b", " + value
                else:
                    index[key] = value
        self.index = index

    def get(self, name: bytes) -> bytes | None:
        """The combined value of the lower-case `name`, or None."""
        return self.index.get(name)

    def __contains__(self, name: bytes) -> bool:
        return name in self.index

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(tuple(self.fields))

    def __repr__(self) -> str:
        return f"Headers({self.fields!r})"

    def without(self, names: AbstractSet[bytes]) -> Headers:
        """The section without the fields whose lower-case name is in `names`; itself when there are none."""
        index = self.index
        dropped = names & index.keys()
        if not dropped:
            return self
        kept = []
        for field in self.fields:
            if field[0].lower() not in dropped:
                kept.append(field)  # noqa: PERF401 - a comprehension is a call more, and this runs for every answer
        index = index.copy()
        for name in dropped:
            del index[name]
        return Headers(kept, index)

    def plus(self, *fields: Field) -> Headers:
        """A copy with `fields` appended."""
        return Headers([*self.fields, *fields])

    def replacing(self, name: bytes, value: bytes) -> Headers:
        """A copy in which `value` is the only field line called `name`, appended last."""
        return self.without({name.lower()}).plus((name, value))


@dataclass(slots=True)
class RequestHead:
    """The control data and fields of one request, already checked by the server.

    `target` is in origin form (path and query, byte-exact) or `*`; `authority` is the host the client addressed, from
    an absolute-form target or else from Host (RFC 9110 §7.2), without userinfo; `minor_version` is 0 or 1. Nobody
    changes a head; it is not frozen because making a frozen one costs a microsecond per request.
    """

    method: str
    target: bytes
    headers: Headers
    authority: bytes = b""
    minor_version: int = 1
    absolute_form: bool = False


@dataclass(slots=True)
class ResponseHead:
    """The status line and end-to-end fields of one response. Like a RequestHead, it is never changed."""

    status: int
    headers: Headers
    reason: bytes = b""
    connection_bound: bool = False
    """Whether it came on a connection that authenticates its user: it is for nobody else (`connection_auth`)."""

    @property
    def octets(self) -> bytes:
        """The status line and the field lines, each ended by CRLF, without the empty line that ends a head (RFC 9112
        §4, §5). An empty reason phrase becomes the usual one of its status.
        """
        fields = self.headers.fields
        phrase = self.reason or PHRASES.get(self.status, b"")
        lines = b"HTTP/1.1 %d %b\r\n" + b"%b: %b\r\n" * len(fields)
        return lines % (self.status, phrase, *chain.from_iterable(fields))


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated field of tokens, lower-cased (RFC 9110 §5.6.1); not for quoted strings."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
