"""The kinds of value a configuration key can take: how each is read, shown, and described in JSON Schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.core.config import CountWindow, TimeWindow, Window
from sidecar.core.methods import LONGEST_METHOD, MethodFlaw, flaw_of
from sidecar.core.settings import addresses, units
from sidecar.core.settings.suggest import did_you_mean
from sidecar.core.settings.units import BadValue, quoted

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
LONGEST_NAME = 100
PSEUDONYM = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
"""A token for Via (RFC 9110 §7.6.3) that is also a structured-field token for Cache-Status (RFC 9211 §2)."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
VISIBLE = re.compile(r"[\x20-\x7e]*")
URL_PATH = re.compile(r"/[!$%&'()*+,;=:@~A-Za-z0-9._/-]*", re.ASCII)
MOST_BUCKETS = 1_000_000
"""Calls that a window by count may hold: a byte or so each."""
SHORTEST_WINDOW = 0.1


@dataclass(frozen=True)
class ScalarType:
    """One scalar. `parse` takes source text and raises BadValue; `show` undoes it; `schema` is its JSON Schema."""

    label: str
    parse: Callable[[str], Any]
    schema: dict[str, Any]
    show: Callable[[Any], Any] = str


@dataclass(frozen=True)
class ListType:
    """A list of scalars, or one scalar for a list of one. `collect` makes the value of the parsed items."""

    item: ScalarType
    collect: Callable[[list[Any]], Any]
    show: Callable[[Any], list[Any]] = list
    may_be_empty: bool = True


@dataclass(frozen=True)
class MapType:
    """Free keys, each with a scalar or nothing (None); becomes a tuple of pairs."""

    key: ScalarType
    value: ScalarType


def _text_schema(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": rf"^(?:{pattern})$|\$\{{"}


def _number_schema(kind: str, pattern: str, **bounds: float) -> dict[str, Any]:
    return {"anyOf": [{"type": kind, **bounds}, _text_schema(pattern)]}


def duration(*, zero: bool = False) -> ScalarType:
    """Seconds; more than none unless `zero`."""

    def parse(text: str) -> float:
        seconds = units.duration(text)
        if seconds == 0 and not zero:
            raise BadValue("a duration of zero makes no sense here", "write how long, such as 500ms")
        return seconds

    schema = _text_schema(r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+")
    return ScalarType("a duration such as 250ms, 2s or 1h30m", parse, schema, units.show_duration)


def size(least: int = 0) -> ScalarType:
    """Bytes, at least `least`."""

    def parse(text: str) -> int:
        count = units.size(text)
        if count < least:
            raise BadValue(f"{quoted(text)} is too small", f"write {units.show_size(least)} or more")
        return count

    schema = _number_schema("integer", r"[0-9]+(\.[0-9]+)? ?(B|[KMGT]iB|[kKMGT]B)?", minimum=least)
    return ScalarType("a size such as 64KiB", parse, schema, units.show_size)


def share(*, zero: bool = False) -> ScalarType:
    """0–1; more than none unless `zero`."""

    def parse(text: str) -> float:
        value = units.share(text)
        if value == 0 and not zero:
            raise BadValue("a share of nothing is always reached", "write a share above 0%, or null to switch it off")
        return value

    schema = _number_schema("number", r"[0-9]+(\.[0-9]+)? *%?", minimum=0, maximum=1)
    return ScalarType("a share such as 50% or 0.5", parse, schema, units.show_share)


def integer(least: int = 0, most: int = 10**9) -> ScalarType:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        value = units.whole(text)
        if not least <= value <= most:
            raise BadValue(f"{value} is out of range", f"write a whole number from {least} to {most}")
        return value

    return ScalarType("a whole number", parse, _number_schema("integer", "[0-9]+", minimum=least, maximum=most), int)


def number(least: float = 0.0) -> ScalarType:
    """A number, at least `least`."""

    def parse(text: str) -> float:
        value = units.decimal(text)
        if value < least:
            raise BadValue(f"{quoted(text)} is too small", f"write {least:g} or more")
        return value

    schema = _number_schema("number", r"[0-9]+(\.[0-9]+)?", minimum=least)
    return ScalarType("a number", parse, schema, lambda value: int(value) if value == int(value) else value)


def choice(kind: type[Enum]) -> ScalarType:
    """One word of an enum. JSON Schema also takes `false` for the word off, as YAML 1.1 readers see it."""
    words = [str(member.value) for member in kind]

    def parse(text: str) -> Enum:
        if text not in words:
            raise BadValue(f"{quoted(text)} is not one of {', '.join(words)}", did_you_mean(text, words))
        return kind(text)

    allowed = [*words, False] if "off" in words else words
    schema = {"anyOf": [{"enum": allowed}, {"type": "string", "pattern": r"\$\{"}]}
    return ScalarType("one of " + ", ".join(words), parse, schema, lambda member: str(member.value))


def text_of(pattern: re.Pattern[str], label: str, *, lower: bool = False, longest: int = 4096) -> ScalarType:
    """Text that fits `pattern` whole, lower-cased if `lower`."""

    def parse(text: str) -> str:
        if pattern.fullmatch(text) is None or len(text) > longest:
            raise BadValue(f"{quoted(text)} is not {label}")
        return text.lower() if lower else text

    return ScalarType(label, parse, {"type": "string"})


def window(text: str) -> Window:
    """A rolling window: `30s` by time, `100` by count."""
    if units.WHOLE.fullmatch(text):
        requests = int(text)
        if not 1 <= requests <= MOST_BUCKETS:
            raise BadValue(f"a window of {requests} requests is out of range", f"write 1 to {MOST_BUCKETS}")
        return CountWindow(requests)
    try:
        seconds = units.duration(text)
    except BadValue:
        hint = "write a duration such as 30s, or a whole number of requests"
        raise BadValue(f"{quoted(text)} is no window", hint) from None
    if seconds < SHORTEST_WINDOW:
        raise BadValue(f"{quoted(text)} is too short a window", "write 100ms or more")
    return TimeWindow(seconds)


def show_window(value: Window) -> object:
    """As it would be written."""
    return units.show_duration(value.seconds) if isinstance(value, TimeWindow) else value.requests


def url_path(text: str) -> str:
    """A path as it stands in a request: absolute, percent-encoded, without query."""
    if not text.startswith("/"):
        hint = f"write /{text}" if URL_PATH.fullmatch("/" + text) else ""
        raise BadValue(f"{quoted(text)} does not start with /", hint)
    if URL_PATH.fullmatch(text) is None:
        odd = next(char for char in text if URL_PATH.fullmatch("/" + char) is None and char != "/")
        hint = "the query takes no part in routing" if odd in "?#" else "percent-encode it, as clients do"
        raise BadValue(f"{quoted(odd)} cannot occur in a path", hint)
    return text


def removable_path(text: str) -> str:
    """Whole segments of a path, or nothing; without the final slash, which stays with what follows it."""
    return url_path(text).removesuffix("/") if text else ""


def regex(text: str) -> re.Pattern[bytes]:
    """A pattern that is matched against the path's octets from their start."""
    try:
        return re.compile(text.encode())
    except (re.error, OverflowError, RecursionError) as error:
        raise BadValue(f"not a regular expression: {error}") from None


def method(text: str) -> str:
    """A request method: any token that would be forwarded (RFC 9110 §9.1)."""
    match flaw_of(text):
        case None:
            return text
        case MethodFlaw.NEVER_FORWARDED:
            raise BadValue(f"{text} is never forwarded")
        case MethodFlaw.TOO_LONG:
            raise BadValue(f"{quoted(text)} is too long for a method", f"at most {LONGEST_METHOD} characters are taken")
        case _:
            raise BadValue(f"{quoted(text)} is not a method", "write GET, POST, …")


def host(text: str) -> str:
    """A host, with a port only when one is meant; lower-case."""
    addresses.host_and_port(text)
    return text.lower()


def _path_schema(pattern: str = "/.*") -> dict[str, Any]:
    return _text_schema(pattern)


STRING: dict[str, Any] = {"type": "string"}
BOOLEAN = ScalarType(
    "true or false",
    units.boolean,
    {"anyOf": [{"type": "boolean"}, _text_schema("true|false|True|False|TRUE|FALSE")]},
    bool,
)
IDENTIFIER = text_of(NAME, "a name (letters, digits, . _ -; a letter or digit first)", longest=LONGEST_NAME)
VIA_NAME = text_of(PSEUDONYM, "a pseudonym (letters, digits, . _ -; a letter first)", longest=LONGEST_NAME)
FILE = text_of(re.compile(r"[^\x00-\x1f\x7f]+"), "a path of a file")
"""A file that has to be there when the configuration is read."""
DIRECTORY = text_of(re.compile(r"[^\x00-\x1f\x7f]+"), "a path of a directory")
FIELD_NAME = text_of(TOKEN, "a header name", lower=True)
FIELD_VALUE = text_of(VISIBLE, "a header value (visible ASCII characters)")
PARAMETER = text_of(re.compile(r"[^\x00-\x20\x7f&=#]+"), "the name of a query parameter")
PATH = ScalarType("a path such as /catalog/", url_path, _path_schema())
SEGMENTS = ScalarType("a path such as /catalog", removable_path, _path_schema("(/.*)?"))
REGEX = ScalarType("a regular expression", regex, STRING, lambda pattern: pattern.pattern.decode())
METHOD = ScalarType("a method", method, STRING)
HOST = ScalarType("a host, with or without port", host, STRING)
WINDOW = ScalarType(
    "a duration or a number of requests",
    window,
    {"anyOf": [{"type": "integer", "minimum": 1}, _text_schema(r"[0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+")]},
    show_window,
)
LISTEN = ScalarType("an address such as 127.0.0.1:4100", addresses.listen_address, STRING)
ENDPOINT = ScalarType("a URL such as http://host:port", addresses.endpoint, STRING)
STATUS = ScalarType(
    "a status code or a range such as 500-599",
    units.statuses,
    _number_schema("integer", "[1-5][0-9]{2}( *- *[1-5][0-9]{2})?", minimum=100, maximum=599),
)
STATUSES = ListType(STATUS, lambda found: frozenset[int]().union(*found), units.show_statuses)


def tuple_of(item: ScalarType, *, may_be_empty: bool = True) -> ListType:
    """Items in order, each once."""
    return ListType(
        item,
        lambda found: tuple(dict.fromkeys(found)),
        lambda values: [item.show(value) for value in values],
        may_be_empty,
    )


def set_of(item: ScalarType, *, may_be_empty: bool = True) -> ListType:
    """Items without order."""
    return ListType(item, frozenset, lambda values: sorted(map(item.show, values)), may_be_empty)
