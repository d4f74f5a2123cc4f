"""Reading the query of a call. A parameter that the call does not know is an error: it would silently do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.adapters.admin.problems import BodyError, bad_values
from sidecar.config.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

    from sidecar.adapters.admin.problems import Call

LONGEST_NUMBER = 18
"""Digits."""


def with_known_query(call: Call, known: Collection[str]) -> Call:
    """`call`, for which a query with any other parameter than `known` is a Problem that names it."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if request.query_string:
            _check(request, known)
        return await call(request)

    return checked


def _check(request: web.Request, known: Collection[str]) -> None:
    errors = [
        BodyError(f"?{name}", _unknown(name, known)) for name in dict.fromkeys(request.query) if name not in known
    ]
    if errors:
        raise bad_values(errors)


def _unknown(name: str, known: Collection[str]) -> str:
    return f"unknown; {did_you_mean(name, known) if known else 'this call takes no parameters'}"


def single(request: web.Request, name: str) -> str | None:
    """The value of a parameter, None when it is not given. Raises Problem when it is given twice."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise bad_values([BodyError(f"?{name}", "given more than once")])
    return values[0] if values else None


def whole_number(request: web.Request, name: str, least: int, most: int) -> int | None:
    """A parameter that is a number from `least` to `most`, None when it is not given. Raises Problem otherwise."""
    text = single(request, name)
    if text is None:
        return None
    number = number_in(text)
    if number is None or not least <= number <= most:
        raise bad_values([BodyError(f"?{name}", f"wanted is a whole number from {least} to {most}")])
    return number


def number_in(text: str) -> int | None:
    """The number that plain ASCII digits stand for, None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else None
