"""How values of each type that a configuration key can take are read, shown, and described in JSON Schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.config import addresses, units
from sidecar.config.redis_url import redis_url
from sidecar.config.suggest import VERY_LIKE, closest, did_you_mean
from sidecar.config.units import BadValue, quoted
from sidecar.core import config_key as k
from sidecar.core.config import (
    ENDPOINT,
    HEDGE_DELAY,
    IDEMPOTENT,
    LISTEN,
    RATE,
    RETRY_METHOD,
    RETRY_ON,
    WINDOW,
    CountWindow,
    HedgeDelay,
    Measured,
    Rate,
    RetryCause,
    RetryOn,
    TimeWindow,
    Window,
)
from sidecar.core.fleet_settings import REDIS_URL
from sidecar.core.http.methods import LONGEST_METHOD, MethodFlaw, flaw_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
LONGEST_NAME = 100
PSEUDONYM = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
"""A token for Via (RFC 9110 §7.6.3) that is also a structured-field token for Cache-Status (RFC 9211 §2)."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
FILE_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
NAMESPACE = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)
VISIBLE = re.compile(r"[\x20-\x7e]*")
URL_PATH = re.compile(r"/[!$%&'()*+,;=:@~A-Za-z0-9._/-]*", re.ASCII)
MOST_BUCKETS = 1_000_000
"""Calls that a window by count may hold: a byte or so each."""
SHORTEST_WINDOW = 0.1


@dataclass(frozen=True, eq=False)
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


def _duration(zero: bool) -> ScalarType:  # noqa: FBT001 - called with a key type's bounds
    def parse(text: str) -> float:
        seconds = units.duration(text)
        if seconds == 0 and not zero:
            raise BadValue("a duration of zero makes no sense here", "write how long, such as 500ms")
        return seconds

    schema = _text_schema(r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+")
    return ScalarType("a duration such as 250ms, 2s or 1h30m", parse, schema, units.show_duration)


def _size(least: int) -> ScalarType:
    def parse(text: str) -> int:
        count = units.size(text)
        if count < least:
            raise BadValue(f"{quoted(text)} is too small", f"write {units.show_size(least)} or more")
        return count

    schema = _number_schema("integer", r"[0-9]+(\.[0-9]+)? ?(B|[KMGT]iB|[kKMGT]B)?", minimum=least)
    return ScalarType("a size such as 64KiB", parse, schema, units.show_size)


def _percentage(zero: bool) -> ScalarType:  # noqa: FBT001 - called with a key type's bounds
    def parse(text: str) -> float:
        value = units.percentage(text)
        if value == 0 and not zero:
            raise BadValue("a share of nothing has no effect", "write a share above 0%, or null to switch it off")
        return value

    schema = _number_schema("number", r"[0-9]+(\.[0-9]+)? *%?", minimum=0, maximum=1)
    return ScalarType("a share such as 50% or 0.5", parse, schema, units.show_percentage)


def _whole(least: int, most: int) -> ScalarType:
    def parse(text: str) -> int:
        value = units.whole(text)
        if not least <= value <= most:
            raise BadValue(f"{value} is out of range", f"write a whole number from {least} to {most}")
        return value

    return ScalarType("a whole number", parse, _number_schema("integer", "[0-9]+", minimum=least, maximum=most), int)


def _number(least: float) -> ScalarType:
    def parse(text: str) -> float:
        value = units.decimal(text)
        if value < least:
            raise BadValue(f"{quoted(text)} is too small", f"write {least:g} or more")
        return value

    schema = _number_schema("number", r"[0-9]+(\.[0-9]+)?", minimum=least)
    return ScalarType("a number", parse, schema, lambda value: int(value) if value == int(value) else value)


def _choice(enum: type[Enum]) -> ScalarType:
    words = [str(member.value) for member in enum]

    def parse(text: str) -> Enum:
        if text not in words:
            raise BadValue(f"{quoted(text)} is not one of {', '.join(words)}", did_you_mean(text, words))
        return enum(text)

    # A YAML 1.1 reader sees `false` where the file has the word off.
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


CAUSES = tuple(cause.value for cause in RetryCause)
DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+"


def retry_causes(text: str) -> RetryOn:
    """A cause by its word, or statuses."""
    if text in CAUSES:
        return frozenset({RetryCause(text)})
    try:
        return frozenset(units.statuses(text))
    except BadValue as bad:
        hint = bad.hint if text[:1].isdigit() else did_you_mean(text, CAUSES)
        raise BadValue(f"{quoted(text)} is no cause of a retry", hint) from None


def show_retry_causes(causes: RetryOn) -> list[Any]:
    """The words, then the statuses."""
    statuses = frozenset(cause for cause in causes if isinstance(cause, int))
    return [cause.value for cause in RetryCause if cause in causes] + units.show_statuses(statuses)


def retry_method(text: str) -> str:
    """A method, or the word for those that are idempotent, which no method resembles."""
    if text != IDEMPOTENT and closest(text, [IDEMPOTENT], VERY_LIKE):
        raise BadValue(f"{quoted(text)} is not a method", f"did you mean {IDEMPOTENT!r}?")
    return text if text == IDEMPOTENT else method(text)


def hedge_delay(text: str) -> HedgeDelay:
    """A duration, or the word for what is measured."""
    return Measured(text) if text == Measured.P95.value else _duration(zero=False).parse(text)


def show_hedge_delay(value: HedgeDelay) -> str:
    """As it would be written."""
    return value.value if isinstance(value, Measured) else units.show_duration(value)


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


STRING: dict[str, Any] = {"type": "string"}
UNBOUNDED: dict[k.ValueType[Any], ScalarType] = {
    bool: ScalarType(
        "true or false",
        units.boolean,
        {"anyOf": [{"type": "boolean"}, _text_schema("true|false|True|False|TRUE|FALSE")]},
        bool,
    ),
    k.IDENTIFIER: text_of(NAME, "a name (letters, digits, . _ -; a letter or digit first)", longest=LONGEST_NAME),
    k.VIA_NAME: text_of(PSEUDONYM, "a pseudonym (letters, digits, . _ -; a letter first)", longest=LONGEST_NAME),
    k.FILE: text_of(FILE_NAME, "a path of a file"),
    k.CONTENT_FILE: text_of(FILE_NAME, "a path of a file"),
    k.DIRECTORY: text_of(FILE_NAME, "a path of a directory"),
    k.FIELD_NAME: text_of(TOKEN, "a header name", lower=True),
    k.FIELD_VALUE: text_of(VISIBLE, "a header value (visible ASCII characters)"),
    k.TEXT: text_of(re.compile(r".*", re.DOTALL), "a text of at most 64Ki characters", longest=64 * 1024),
    k.PARAMETER: text_of(re.compile(r"[^\x00-\x20\x7f&=#]+"), "the name of a query parameter"),
    k.PATH: ScalarType("a path such as /catalog/", url_path, _text_schema("/.*")),
    k.SEGMENTS: ScalarType("a path such as /catalog", removable_path, _text_schema("(/.*)?")),
    k.REGEX: ScalarType("a regular expression", regex, STRING, lambda pattern: pattern.pattern.decode()),
    k.METHOD: ScalarType("a method", method, STRING),
    k.HOST: ScalarType("a host, with or without port", host, STRING),
    RETRY_METHOD: ScalarType("idempotent or a method", retry_method, STRING),
    WINDOW: ScalarType(
        "a duration or a number of requests",
        window,
        {"anyOf": [{"type": "integer", "minimum": 1}, _text_schema(r"[0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+")]},
        show_window,
    ),
    RATE: ScalarType(
        "a rate such as 100/s, 5/m or 1/h",
        lambda text: Rate(*units.rate(text)),
        _text_schema(r"[0-9]+(\.[0-9]+)? ?/ ?[smh]"),
        lambda rate: units.show_rate(rate.count, rate.seconds),
    ),
    HEDGE_DELAY: ScalarType(
        "a duration or p95", hedge_delay, _text_schema(rf"p95|{DURATION_PATTERN}"), show_hedge_delay
    ),
    LISTEN: ScalarType("an address such as 127.0.0.1:4100", addresses.listen_address, STRING),
    ENDPOINT: ScalarType("a URL such as http://host:port", addresses.endpoint, STRING),
    REDIS_URL: ScalarType("a URL such as redis://host:6379/0", redis_url, STRING),
    k.NAMESPACE: text_of(NAMESPACE, "a namespace (letters, digits, . _ : -)", longest=LONGEST_NAME),
    k.TEXT: text_of(VISIBLE, "text in visible ASCII characters"),
}
LARGEST_FILE = {UNBOUNDED[k.FILE]: None, UNBOUNDED[k.CONTENT_FILE]: k.LARGEST_CONTENT}
"""Types that name a file which must be there, and how many octets it may have."""
IDENTIFIER = UNBOUNDED[k.IDENTIFIER]
STATUS_PATTERN = "[1-5][0-9]{2}( *- *[1-5][0-9]{2})?"
STATUSES = ListType(
    ScalarType(
        "a status code or a range such as 500-599",
        units.statuses,
        _number_schema("integer", STATUS_PATTERN, minimum=100, maximum=599),
    ),
    lambda found: frozenset[int]().union(*found),
    units.show_statuses,
)
LISTS: dict[k.ValueType[Any], ListType] = {
    k.STATUSES: STATUSES,
    RETRY_ON: ListType(
        ScalarType(
            "connect, reset, timeout or a status code",
            retry_causes,
            _number_schema("integer", f"{'|'.join(CAUSES)}|{STATUS_PATTERN}", minimum=100, maximum=599),
        ),
        lambda found: frozenset[Any]().union(*found),
        show_retry_causes,
    ),
}
BOUNDED: dict[str, Callable[..., ScalarType]] = {
    "duration": _duration,
    "percentage": _percentage,
    "size": _size,
    "whole": _whole,
    "number": _number,
}


def value_type(kind: k.ValueType[Any]) -> ScalarType | ListType | MapType:
    """How values of `kind` are read, shown and described."""
    match kind:
        case k.KeyType("tuple", (item, may_be_empty)):
            return _tuple_of(scalar_type(item), may_be_empty=may_be_empty)
        case k.KeyType("set", (item, may_be_empty)):
            return _set_of(scalar_type(item), may_be_empty=may_be_empty)
        case k.KeyType("map", (name, value)):
            return MapType(scalar_type(name), scalar_type(value))
    return LISTS.get(kind) or scalar_type(kind)


def scalar_type(kind: k.ValueType[Any]) -> ScalarType:
    """How one value of `kind`, which is no collection, is read, shown and described."""
    if isinstance(kind, k.KeyType) and kind.bounds:
        return BOUNDED[kind.form](*kind.bounds)
    return _choice(kind) if isinstance(kind, type) and issubclass(kind, Enum) else UNBOUNDED[kind]


def _tuple_of(item: ScalarType, *, may_be_empty: bool) -> ListType:
    """Items in order, each once."""
    return ListType(
        item,
        lambda found: tuple(dict.fromkeys(found)),
        lambda values: [item.show(value) for value in values],
        may_be_empty,
    )


def _set_of(item: ScalarType, *, may_be_empty: bool) -> ListType:
    """Items without order."""
    return ListType(item, frozenset, lambda values: sorted(map(item.show, values)), may_be_empty)
