"""GET /v1/config, /v1/routes, /v1/upstreams and /v1/info: what is in force, secrets left out.

Times are seconds, sizes bytes, shares 0–1; `refs` say where a setting stands in the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer, json_long_answer, tagged
from sidecar.adapters.admin.context import CONTEXT
from sidecar.core.config import Address, Endpoint, Fallback, FaultMatch, Match, RouteConfig
from sidecar.core.fleet_settings import RedisUrl
from sidecar.core.report import bulkhead_report, redacted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from aiohttp import web

    from sidecar.core.report import Json
    from sidecar.pipeline.stats import UpstreamStats


async def show_info(request: web.Request) -> web.Response:
    """The process: version, times, listeners."""
    return json_answer(request.app[CONTEXT].info())


async def show_config(request: web.Request) -> web.Response:
    """Everything in force."""
    config = request.app[CONTEXT].config()
    lists = {"upstreams": map(plain, config.upstreams), "routes": map(plain, config.routes)}
    rest = {name: plain(getattr(config, name)) for name in _names(config) if name not in lists}
    return tagged(request, await json_long_answer(rest, lists))


async def list_routes(request: web.Request) -> web.Response:
    """Every route with its settings in force."""
    return await json_long_answer({}, {"routes": map(plain, request.app[CONTEXT].config().routes)})


async def list_upstreams(request: web.Request) -> web.Response:
    """Every upstream, with what is left of its retry budget, and the bulkheads of its routes as they are now."""
    context = request.app[CONTEXT]
    config, counted = context.config(), await context.plane.stats()
    stats = {upstream.name: upstream for upstream in counted.upstreams}
    limits = {route.name: route.bulkhead for route in counted.routes}
    bulkheads: defaultdict[str, list[Json]] = defaultdict(list)
    for route in config.routes:
        bulkhead = limits.get(route.name)
        if bulkhead is not None:
            bulkheads[route.upstream.name].append(bulkhead_report(route.name, bulkhead))
    found = (
        {**_by_name(each), **_retries(stats.get(each.name)), "bulkheads": bulkheads[each.name]}
        for each in config.upstreams
    )
    return await json_long_answer({}, {"upstreams": found})


def _retries(stats: UpstreamStats | None) -> dict[str, object]:
    if stats is None:
        return {}
    counts = {"exhausted": stats.budget_exhausted, "observed": stats.budget_observed}
    return {"retry_budget": {"available": stats.budget_available, **counts}}


def plain(value: object) -> object:
    """A configuration value in JSON values."""
    match value:
        case Enum():
            return value.value
        case Address() | Endpoint() | RedisUrl():
            return str(value)
        case Match() | FaultMatch() | Fallback():
            return {**_by_name(value), "headers": redacted(value.headers)}
        case RouteConfig():
            return {**_by_name(value), "upstream": value.upstream.name}
        case re.Pattern():
            return value.pattern.decode("latin-1")
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case frozenset():
            # Words before numbers, where there are both.
            return sorted(map(plain, value), key=lambda item: (isinstance(item, int), item))
        case tuple():
            return [plain(item) for item in value]
    return _by_name(value) if is_dataclass(value) and not isinstance(value, type) else value


def _by_name(value: DataclassInstance) -> dict[str, object]:
    return {name: plain(getattr(value, name)) for name in _names(value)}


def _names(value: DataclassInstance) -> list[str]:
    return [field.name for field in fields(value)]
