"""Reading what a caller sent: JSON objects, bounded, each wrong value pointed at."""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from sidecar.adapters.admin.problems import BodyError, Problem, bad_values
from sidecar.config.suggest import did_you_mean
from sidecar.config.units import DURATION, BadValue, duration, show_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aiohttp import web

LARGEST_BODY = 64 * 1024
LONGEST_WAIT = 10.0
"""Seconds that a body may take to arrive."""
LONGEST_TEXT = 500
LONGEST_TTL = 365 * 86_400.0
NEVER = "never"
TTL_PATTERN = rf"^({NEVER}|{DURATION.pattern})$"
SURROGATE = re.compile("[\ud800-\udfff]")


async def json_object(request: web.Request) -> dict[str, object]:
    """The object that the body holds. Raises Problem when it holds something else."""
    _check_type(request)
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            octets = await request.read()
    except TimeoutError:
        detail = "the body did not arrive in time"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", detail, headers={"Connection": "close"}) from None
    try:
        content = json.loads(octets, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise bad_values([BodyError("#", f"not JSON: {error}")]) from None
    if not isinstance(content, dict):
        raise bad_values([BodyError("#", "wanted is an object")])
    return content


def refuse_other_types(request: web.Request) -> None:
    """A body that a call has no use for must still be JSON: forms, which browsers send to anybody, never are."""
    if request.body_exists:
        _check_type(request)


def _check_type(request: web.Request) -> None:
    if request.content_type != "application/json":
        detail = "send the body as Content-Type: application/json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "wrong_content_type", detail)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is given twice")
    return content


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


class Fields:
    """The values of a body, read one by one; what is wrong is collected, and raised together by `finish`."""

    def __init__(self, content: Mapping[str, object], known: Collection[str]) -> None:
        self._content = content
        self._errors: list[BodyError] = []
        for key in content:
            if key not in known:
                self._wrong(key, f"unknown key; {did_you_mean(key, known)}")

    def finish(self, further: Sequence[BodyError] = ()) -> None:
        """Raise Problem if any value was wrong, or there are `further` errors; until then what was read may be a
        stand-in.
        """
        if self._errors or further:
            raise bad_values([*self._errors, *further])

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`, which must be given."""
        value = self._content.get(key)
        if isinstance(value, str) and value in choices:
            return value
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        self._wrong(key, "; ".join(filter(None, [f"wanted is one of {', '.join(choices)}", hint])))
        return choices[0]

    def flag(self, key: str) -> bool:
        """true or false, false when it is not given."""
        value = self._content.get(key, False)
        if not isinstance(value, bool):
            self._wrong(key, "wanted is true or false")
        return value is True

    def text(self, key: str) -> str:
        """A short text, empty when it is not given."""
        value = self._content.get(key, "")
        if not isinstance(value, str):
            self._wrong(key, "wanted is a text")
        elif SURROGATE.search(value):
            self._wrong(key, "half of a surrogate pair is no text")
        elif len(value) > LONGEST_TEXT:
            self._wrong(key, f"longer than {LONGEST_TEXT} characters")
        else:
            return value
        return ""

    def document(self, key: str) -> str:
        """A text of any length, which must be given."""
        value = self._content.get(key)
        if isinstance(value, str):
            return value
        self._wrong(key, "wanted is a text")
        return ""

    def ttl(self, key: str, default: float) -> float | None:
        """Seconds until it ends; None for `never`, which must be said."""
        if key not in self._content:
            return default
        value = self._content[key]
        if value == NEVER:
            return None
        if not isinstance(value, str):
            self._wrong(key, f'wanted is a text such as "15m", or "{NEVER}"')
            return default
        try:
            seconds = duration(value)
        except BadValue as error:
            self._wrong(key, f'{error}; {error.hint}, or "{NEVER}"')
            return default
        if not 0 < seconds <= LONGEST_TTL:
            self._wrong(key, f'must be more than 0 and at most {show_duration(LONGEST_TTL)}, or "{NEVER}"')
        return seconds

    def _wrong(self, key: str, detail: str) -> None:
        self._errors.append(BodyError(pointer(key), detail))


def pointer(key: str) -> str:
    """The URI fragment that points at `key` of the body (RFC 6901 §6)."""
    return "#/" + quote(key.replace("~", "~0").replace("/", "~1"), safe="~")
