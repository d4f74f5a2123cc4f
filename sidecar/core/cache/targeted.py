"""Targeted cache control (RFC 9213): fields such as CDN-Cache-Control, which win over Cache-Control.

They are Structured Fields dictionaries (RFC 8941 §3.2) and read strictly: one that does not parse, or that gives a
known directive a value of the wrong type, counts as absent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from sidecar.core.cache.directives import interpret, response_directives

if TYPE_CHECKING:
    from sidecar.core.cache.directives import DirectiveValue, ResponseDirectives
    from sidecar.core.http.heads import Headers

_KEY = rb"[a-z*][a-z0-9_\-.*]*"
_NUMBER = rb"-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})"
_STRING = rb"\"(?:[ !#-\[\]-~]|\\[\"\\])*\""
_TOKEN = rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*"
_BINARY = rb":[A-Za-z0-9+/=]*:"
_BARE = rb"(?:" + rb"|".join((_NUMBER, _STRING, _TOKEN, _BINARY, rb"\?[01]")) + rb")"
_PARAMETERS = rb"(?:; *" + _KEY + rb"(?:=" + _BARE + rb")?)*"
_INNER_LIST = rb"\( *(?:" + _BARE + _PARAMETERS + rb"(?: +" + _BARE + _PARAMETERS + rb")* *)?\)"
_MEMBER = re.compile(
    rb"(?P<key>"
    + _KEY
    + rb")(?:=(?P<value>"
    + _BARE
    + rb"|"
    + _INNER_LIST
    + rb"))?"
    + _PARAMETERS
    + rb"[ \t]*(?P<end>,[ \t]*|$)"
)
_INTEGER = re.compile(rb"[0-9]+")

TIMES = frozenset({b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error"})
SWITCHES = frozenset({b"no-store", b"public", b"must-revalidate", b"proxy-revalidate", b"must-understand"})
QUALIFIABLE = frozenset({b"no-cache", b"private"})


def targeted_directives(headers: Headers, names: tuple[bytes, ...]) -> ResponseDirectives | None:
    """The directives of the first of the lower-case field `names` that is there and valid (RFC 9213 §2.2)."""
    for name in names:
        value = headers.index.get(name)
        directives = _directives(value) if value else None
        if directives is not None:
            return directives
    return None


@lru_cache(maxsize=256)
def _directives(value: bytes) -> ResponseDirectives | None:
    members = parse_dictionary(value)
    if not members:
        return None
    given: dict[bytes, DirectiveValue] = {}
    for name, argument in members.items():
        if not _well_typed(name, argument):
            return None
        if argument != b"?0":
            given[name] = None if argument == b"?1" else argument.strip(b'"')
    return interpret(given)


def parse_dictionary(value: bytes) -> dict[bytes, bytes] | None:
    """Key → value as written, `?1` where none is; None when `value` is no dictionary. The last of equal keys counts."""
    members: dict[bytes, bytes] = {}
    text = value.strip(b" ")
    position = 0
    while position < len(text):
        found = _MEMBER.match(text, position)
        trailing_comma = found is not None and found["end"] != b"" and found.end() == len(text)
        if found is None or trailing_comma:
            return None
        members[found["key"]] = found["value"] if found["value"] is not None else b"?1"
        position = found.end()
    return members


def _well_typed(name: bytes, argument: bytes) -> bool:
    boolean = argument in (b"?0", b"?1")
    if name in TIMES:
        return _INTEGER.fullmatch(argument) is not None
    if name in SWITCHES:
        return boolean
    return name not in QUALIFIABLE or boolean or argument.startswith(b'"')


def effective_directives(headers: Headers, targeted: tuple[bytes, ...]) -> tuple[ResponseDirectives, bool]:
    """What is in force for this cache, and whether a targeted field decided it (then Expires is void too)."""
    if targeted:
        directives = targeted_directives(headers, targeted)
        if directives is not None:
            return directives, True
    return response_directives(headers.index.get(b"cache-control")), False
