"""Cache-Control, read once (RFC 9111 §5.2): what is malformed, repeated or contradictory is read the safe way.

Safe means: a restriction counts however it is written, and a lifetime that cannot be read, or that is given twice with
different values, is over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.http.heads import list_members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.http.heads import Headers

LONGEST = 2**31
"""Any longer time is as good as this one, in seconds (RFC 9111 §1.2.2)."""

_MEMBER = re.compile(rb"[ \t,]*(?P<text>(?:[^,\"]|\"(?:[^\"\\]|\\.)*(?:\"|$))+)", re.DOTALL)
_DIRECTIVE = re.compile(
    rb"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
    rb"(?:=(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<token>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)))?"
)
_LEADING_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Malformed:
    """The value of a directive that is not well formed, or that was given twice with different values."""


MALFORMED = Malformed()
DirectiveValue: TypeAlias = "bytes | Malformed | None"
"""The argument without its quotes; None when there is none."""


@dataclass(frozen=True, slots=True)
class ResponseDirectives:
    """What a response asks of a shared cache; times in seconds, None where it does not say.

    `no_cache` and `private` are the unqualified forms; `unstored_fields` are the lower-case names that their qualified
    forms list.
    """

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    unstored_fields: frozenset[bytes] = frozenset()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    max_age: float | None = None
    s_maxage: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None

    @property
    def strict(self) -> bool:
        """Whether it forbids a shared cache to use it stale (RFC 9111 §4.2.4)."""
        return self.must_revalidate or self.proxy_revalidate or self.no_cache or self.s_maxage is not None

    @property
    def shared(self) -> bool:
        """Whether it may be stored, and used, for requests with Authorization (RFC 9111 §3.5)."""
        return self.public or self.must_revalidate or self.s_maxage is not None


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """What a client asks of a cache (RFC 9111 §5.2.1); `max_stale` is `inf` when it names no limit, 0 when absent."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0


NO_REQUEST_DIRECTIVES = RequestDirectives()
ONLY_PRAGMA = RequestDirectives(no_cache=True)


def request_directives(headers: Headers) -> RequestDirectives:
    """The directives of a request; Pragma counts only where there is no Cache-Control (RFC 9111 §5.4)."""
    value = headers.index.get(b"cache-control")
    if value is not None:
        return _request_directives(value)
    pragma = headers.index.get(b"pragma")
    return ONLY_PRAGMA if pragma is not None and b"no-cache" in list_members(pragma) else NO_REQUEST_DIRECTIVES


@lru_cache(maxsize=256)
def _request_directives(value: bytes) -> RequestDirectives:
    given = parse_directives(value)
    max_stale = 0.0
    if b"max-stale" in given:
        max_stale = inf if given[b"max-stale"] is None else seconds_of(given, b"max-stale") or 0.0
    return RequestDirectives(
        no_cache=b"no-cache" in given,
        no_store=b"no-store" in given,
        only_if_cached=b"only-if-cached" in given,
        max_age=seconds_of(given, b"max-age"),
        min_fresh=_at_least(given, b"min-fresh"),
        max_stale=max_stale,
    )


def _at_least(given: Mapping[bytes, DirectiveValue], name: bytes) -> float:
    """The delta-seconds of a directive by which less is asked for: `inf` when it is not a number."""
    value = given.get(name, b"0")
    seconds = delta_seconds(value) if isinstance(value, bytes) else None
    return inf if seconds is None else seconds


@lru_cache(maxsize=256)
def response_directives(value: bytes | None) -> ResponseDirectives:
    """The directives of a response's combined Cache-Control field, None when it has none."""
    return interpret(parse_directives(value)) if value is not None else ResponseDirectives()


def interpret(given: Mapping[bytes, DirectiveValue]) -> ResponseDirectives:
    """What the directives `given` mean in a response."""
    no_cache, no_cache_fields = _qualified(given, b"no-cache")
    private, private_fields = _qualified(given, b"private")
    return ResponseDirectives(
        no_store=b"no-store" in given,
        no_cache=no_cache,
        private=private,
        unstored_fields=no_cache_fields | private_fields,
        public=b"public" in given,
        must_revalidate=b"must-revalidate" in given,
        proxy_revalidate=b"proxy-revalidate" in given,
        must_understand=b"must-understand" in given,
        max_age=seconds_of(given, b"max-age"),
        s_maxage=seconds_of(given, b"s-maxage"),
        stale_while_revalidate=seconds_of(given, b"stale-while-revalidate"),
        stale_if_error=seconds_of(given, b"stale-if-error"),
    )


def parse_directives(value: bytes) -> dict[bytes, DirectiveValue]:
    """Lower-case directive name → argument. What follows a malformed member's name is `MALFORMED`."""
    given: dict[bytes, DirectiveValue] = {}
    for member in _MEMBER.finditer(value):
        text = member["text"].strip(b" \t")
        found = _DIRECTIVE.fullmatch(text)
        leading = _LEADING_TOKEN.match(text)
        if leading is None:
            continue
        name = leading[0].lower()
        argument: DirectiveValue = MALFORMED if found is None else _argument(found)
        given[name] = argument if given.get(name, argument) == argument else MALFORMED
    return given


def seconds_of(given: Mapping[bytes, DirectiveValue], name: bytes) -> float | None:
    """The delta-seconds of directive `name`: None when absent, 0 when it is not a number (RFC 9111 §1.2.2)."""
    if name not in given:
        return None
    value = given[name]
    return delta_seconds(value) or 0.0 if isinstance(value, bytes) else 0.0


def delta_seconds(value: bytes) -> float | None:
    """A non-negative whole number of seconds, at most `LONGEST`; None when `value` is none."""
    if not value.isdigit():
        return None
    return float(min(int(value), LONGEST)) if len(value) < 20 else float(LONGEST)


def _argument(found: re.Match[bytes]) -> bytes | None:
    if found["quoted"] is not None:
        return _ESCAPE.sub(rb"\1", found["quoted"])
    return found["token"]


def _qualified(given: Mapping[bytes, DirectiveValue], name: bytes) -> tuple[bool, frozenset[bytes]]:
    """Whether the directive holds for the whole response, and else the fields it is about."""
    if name not in given:
        return False, frozenset()
    value = given[name]
    fields = frozenset(list_members(value)) if isinstance(value, bytes) else frozenset()
    return not fields, fields
