"""The API's description of itself, an OpenAPI 3.1 document, from the same table as its calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sidecar import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.adapters.admin.entry import Entry

PARAMETER = re.compile(r"\{(\w+)\}")
PROBLEM = "#/components/schemas/Problem"


def document(entries: Iterable[Entry]) -> dict[str, Any]:
    """All of it."""
    paths: dict[str, dict[str, object]] = {}
    for entry in entries:
        paths.setdefault(entry.path, {})[entry.method.lower()] = _operation(entry)
    return {
        "openapi": "3.1.0",
        "info": {"title": "circuit-sidecar admin API", "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Problem": _problem()}, "securitySchemes": {"token": _bearer()}},
        # A token is asked for only where one is configured.
        "security": [{}, {"token": []}],
    }


def _operation(entry: Entry) -> dict[str, object]:
    in_path = [_parameter(name, "path", {"type": "string", "minLength": 1}) for name in PARAMETER.findall(entry.path)]
    in_query = [_parameter(name, "query", dict(schema)) for name, schema in entry.query.items()]
    operation: dict[str, object] = {
        "operationId": _identifier(entry),
        "summary": entry.meaning,
        "parameters": in_path + in_query,
        "responses": _responses(entry),
    }
    if entry.body is not None:
        content = {"application/json": {"schema": entry.body}}
        operation["requestBody"] = {"required": entry.needs_body, "content": content}
    return operation


def _identifier(entry: Entry) -> str:
    words = [word for word in re.split(r"\W+", entry.path.removeprefix("/v1")) if word]
    return "_".join([entry.method.lower(), *words])


def _parameter(name: str, place: str, schema: dict[str, object]) -> dict[str, object]:
    return {"name": name, "in": place, "required": place == "path" or schema.pop("required", False), "schema": schema}


def _responses(entry: Entry) -> dict[str, object]:
    schema: dict[str, object] = {"type": "object", "required": list(entry.gives)}
    if entry.media_type != "application/json":
        schema = {"type": "string"}
    done: dict[str, object] = {"description": entry.meaning, "content": {entry.media_type: {"schema": schema}}}
    if entry.tagged:
        done["headers"] = {"ETag": {"required": True, "schema": {"type": "string"}}}
    refused = {
        "description": "a problem (RFC 9457)",
        "content": {"application/problem+json": {"schema": {"$ref": PROBLEM}}},
    }
    same = {"304": {"description": "If-None-Match names what would be answered"}} if entry.tagged else {}
    return {"200": done, **same, "default": refused}


def _problem() -> dict[str, object]:
    words = {name: {"type": "string"} for name in ("type", "title", "detail", "reason")}
    status = {"type": "integer", "minimum": 400, "maximum": 599}
    return {"type": "object", "properties": {**words, "status": status}, "required": [*words, "status"]}


def _bearer() -> dict[str, str]:
    return {"type": "http", "scheme": "bearer"}
