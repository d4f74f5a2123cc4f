"""HTTP message heads as values (RFC 9110 §5–6, RFC 9112 §2–5).

Heads only: bodies never enter the core. Field names and values stay the bytes that were received, in their
order, with their case and their repeats; look-ups are case-insensitive and see repeats combined.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
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


field_line = b": ".join
"""Makes a line of a field, without its end."""
PHRASES = {status.value: reason_phrase(status).encode() for status in HTTPStatus}


class Headers:
    """An immutable field section: ordered field lines, and a case-insensitive index of them: lower-case name →
    combined value (RFC 9110 §5.3). An `index` that is given is taken where no name is repeated.
    """

    __slots__ = ("fields", "index")

    def __init__(self, fields: Iterable[Field] = (), index: dict[bytes, bytes] | None = None) -> None:
        self.fields = fields if type(fields) is list else list(fields)
        if index is None or len(index) != len(self.fields):
            index = {}
            for name, value in self.fields:
                key = name.lower()
                index[key] = index[key] + b", " + value if key in index else value
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
        dropped = names & self.index.keys()
        if not dropped:
            return self
        # Made here of parts that fit together: this runs twice for every request.
        kept = object.__new__(Headers)
        kept.index = index = self.index.copy()
        kept.fields = fields = self.fields.copy()
        if len(fields) == len(index):
            # No name is repeated, so that lines and index are in the same order.
            order = list(index)
            for name in dropped:
                place = order.index(name)
                del fields[place], order[place], index[name]
        else:
            fields[:] = [field for field in fields if field[0].lower() not in dropped]
            for name in dropped:
                del index[name]
        return kept

    def plus(self, *fields: Field) -> Headers:
        """A copy with `fields` appended."""
        return Headers([*self.fields, *fields])

    def replacing(self, name: bytes, value: bytes) -> Headers:
        """A copy in which `value` is the only field line called `name`, appended last."""
        return self.without({name.lower()}).plus((name, value))


class FieldLines:
    """Takes the field lines of one head after another from llhttp: what an `httptools` parser calls."""

    __slots__ = ("fields", "index")
    on_message_begin = on_url = on_status = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = None
    # A parser asks for each of these when it is made: to find None takes less time than to find nothing.

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.index: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field line. llhttp leaves the white space behind a value where it is."""
        value = value.rstrip()
        self.fields.append((name, value))
        self.index[name.lower()] = value


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
        phrase = self.reason or PHRASES.get(self.status, b"")
        line = b"HTTP/1.1 %d %b" % (self.status, phrase)
        return b"\r\n".join((line, *map(field_line, self.headers.fields), b""))


def list_members(value: bytes) -> list[bytes]:
    """The members of a comma-separated field of tokens, lower-cased (RFC 9110 §5.6.1); not for quoted strings."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]
