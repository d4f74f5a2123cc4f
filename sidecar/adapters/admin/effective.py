"""GET /v1/config, /v1/routes, /v1/upstreams and /v1/info: what is in force, secrets left out.

Times are seconds, sizes bytes, shares 0–1; `refs` say where a setting stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer, json_long_answer
from sidecar.adapters.admin.context import CONTEXT
from sidecar.core.config import Address, Endpoint, Match, RouteConfig
from sidecar.core.fleet_settings import RedisUrl

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from aiohttp import web

REDACTED = "(redacted)"
SECRET_FIELD = re.compile(r"auth|cookie|token|secret|key|passw|credential|session")
"""Names of request fields in which a value to match is likely a secret."""


async def show_info(request: web.Request) -> web.Response:
    """The process: version, times, listeners."""
    return json_answer(request.app[CONTEXT].info())


async def show_config(request: web.Request) -> web.Response:
    """Everything in force."""
    config = request.app[CONTEXT].config()
    lists = {"upstreams": map(plain, config.upstreams), "routes": map(plain, config.routes)}
    rest = {name: plain(getattr(config, name)) for name in _names(config) if name not in lists}
    return await json_long_answer(rest, lists)


async def list_routes(request: web.Request) -> web.Response:
    """Every route with its settings in force."""
    return await json_long_answer({}, {"routes": map(plain, request.app[CONTEXT].config().routes)})


async def list_upstreams(request: web.Request) -> web.Response:
    """Every upstream."""
    return await json_long_answer({}, {"upstreams": map(plain, request.app[CONTEXT].config().upstreams)})


def plain(value: object) -> object:
    """A configuration value in JSON values."""
    match value:
        case Enum():
            return value.value
        case Address() | Endpoint() | RedisUrl():
            return str(value)
        case Match():
            return {**_by_name(value), "headers": {name: _wanted(name, wanted) for name, wanted in value.headers}}
        case RouteConfig():
            return {**_by_name(value), "upstream": value.upstream.name}
        case re.Pattern():
            return value.pattern.decode("latin-1")
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case frozenset():
            return sorted(value)
        case tuple():
            return [plain(item) for item in value]
    return _by_name(value) if is_dataclass(value) and not isinstance(value, type) else value


def _by_name(value: DataclassInstance) -> dict[str, object]:
    return {name: plain(getattr(value, name)) for name in _names(value)}


def _names(value: DataclassInstance) -> list[str]:
    return [field.name for field in fields(value)]


def _wanted(name: str, wanted: str | None) -> str | None:
    return REDACTED if wanted is not None and SECRET_FIELD.search(name) else wanted
