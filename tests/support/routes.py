"""Routes and request heads for tests, in as few words as a case needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sidecar.core.config import Endpoint, Match, RouteConfig, UpstreamConfig
from sidecar.core.http.heads import Headers, RequestHead

if TYPE_CHECKING:
    from sidecar.core.http.heads import Field

UPSTREAM = UpstreamConfig("catalog", (Endpoint("http", "catalog.shop.svc", 8080),))


def route(name: str = "r", *, upstream: UpstreamConfig = UPSTREAM, **parts: Any) -> RouteConfig:
    """A route; what is no part of RouteConfig is a condition, and `regex` is text."""
    conditions = {key: parts.pop(key) for key in list(parts) if key in Match.__dataclass_fields__}
    if "regex" in conditions:
        conditions["regex"] = re.compile(conditions["regex"].encode())
    elif not conditions.keys() & {"prefix", "path"}:
        conditions["prefix"] = "/"
    return RouteConfig(name, Match(**conditions), upstream, **parts)


def request(
    target: str, method: str = "GET", host: str = "localhost:4100", *fields: Field, absolute: bool = False
) -> RequestHead:
    """A request head as the server hands it to routing."""
    return RequestHead(method, target.encode(), Headers(list(fields)), host.encode(), absolute_form=absolute)
