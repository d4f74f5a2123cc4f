"""GET /v1/explain: what becomes of a request, as the command `sidecar explain` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import text
from sidecar.adapters.admin.problems import BodyError, bad_values
from sidecar.adapters.admin.queries import single
from sidecar.adapters.admin.stored import explain_storing
from sidecar.config.request_explanation import BadMethod, BadUrl, explain_request, request_head
from sidecar.config.settings_view import route_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from sidecar.config.request_explanation import RequestExplanation
    from sidecar.core.config import RouteConfig
    from sidecar.core.http.heads import Field


PARAMETERS = {"method": text(), "url": {**text(), "required": True}, "header": {"type": "array", "items": text()}}


async def explain(request: web.Request) -> web.Response:
    """The route of `method` (GET unless said), `url` and any number of `header=name: value`, and why not another."""
    context = request.app[CONTEXT]
    config = context.config()
    method, url = single(request, "method"), single(request, "url")
    own = [str(address) for address in config.proxy.listen]
    try:
        head = request_head("GET" if method is None else method, url or "", _fields(request), own)
    except BadMethod as error:
        raise bad_values([BodyError("?method", str(error))]) from None
    except BadUrl as error:
        raise bad_values([BodyError("?url", str(error))]) from None
    explanation = explain_request(config, head)
    return json_answer({**explanation_view(explanation), "cache": await explain_storing(context, explanation)})


def _fields(request: web.Request) -> Iterator[Field]:
    for line in request.query.getall("header", []):
        name, colon, value = line.partition(":")
        if not colon:
            raise bad_values([BodyError("?header", "wanted is name: value")])
        yield name.strip().encode(), value.strip().encode()


def explanation_view(explanation: RequestExplanation) -> dict[str, object]:
    """An explanation in JSON values; `route` and what belongs to it are None where no route matches."""
    match = explanation.routing.match
    return {
        "method": explanation.head.method,
        "target": explanation.head.target.decode("latin-1"),
        "host": explanation.head.authority.decode("latin-1") or None,
        "route": match and match.route.name,
        "upstream": match and match.route.upstream.name,
        "config_ref": match and match.route.refs.get(""),
        "sends": explanation.sent,
        "answered_here": explanation.here,
        "settings": _settings(match.route) if match else None,
        "nearest": list(explanation.nearest),
        "taken_away": explanation.taken_away or None,
        "candidates": [
            {"route": each.route, "path": each.path, "failed": list(each.failed)}
            for each in explanation.routing.candidates
        ],
    }


def _settings(route: RouteConfig) -> list[dict[str, object]]:
    return [{"name": view.name, "value": view.value, "config_ref": view.ref} for view in route_settings(route)]
