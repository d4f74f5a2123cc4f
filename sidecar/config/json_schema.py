"""JSON Schema (draft 2020-12) of the configuration, from the table that the loader reads by.

Editors use it for completion. It is a little wider than the loader: a value may always be a string with a `${VAR}`,
and rules across keys are the loader's.
"""

from __future__ import annotations

from typing import Any

from sidecar.config.keys import DEFAULTS, ROOT, ROUTE, Block, Key, Later, Listed, Named, block_of
from sidecar.config.settings_view import shown
from sidecar.config.value_types import NAME, ListType, MapType, ScalarType
from sidecar.core.config import ServerTls
from sidecar.core.fleet_settings import RedisSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DESCRIPTION = "Configuration of circuit-sidecar. Top-level keys that start with x- are free, for anchors."

SHARED = tuple(
    key.type.block if isinstance(key.type, Listed) else key.type
    for key in DEFAULTS.keys
    if isinstance(key.type, Block | Listed)
)
"""Blocks that several others contain, described once."""
GIVEN_WHOLE = (ROOT, ROUTE, block_of(ServerTls, "tls"), block_of(RedisSettings, "redis"))
"""Blocks in which a required key must stand; in others it may come from a lower layer."""


def schema() -> dict[str, Any]:
    """The whole schema."""
    root = block_schema(ROOT, nullable=False)
    root["patternProperties"] = {"^x-": True}
    shared = {block.cls.__name__: block_schema(block) for block in SHARED}
    return {"$schema": DIALECT, "title": "circuit-sidecar", "description": DESCRIPTION, **root, "$defs": shared}


def block_schema(block: Block[Any], *, nullable: bool = True) -> dict[str, Any]:
    """The schema of one block. `nullable`: null says the same as leaving the block out. That stands in the type: where
    there are alternatives a validator tells only that none of them fits, and not which key is the wrong one.
    """
    described: dict[str, Any] = {
        "type": ["object", "null"] if nullable else "object",
        "properties": {key.name: _key(key) for key in block.keys},
        "additionalProperties": False,
    }
    if block in GIVEN_WHOLE:
        described["required"] = sorted(block.required)
    return described


def _key(key: Key) -> dict[str, Any]:
    described: dict[str, Any] = {"description": key.meaning}
    if isinstance(key.type, ScalarType | ListType) and key.has_default:
        described["default"] = shown(key, key.default)
    kind = _type(key)
    if key.nullable and not isinstance(key.type, Block):
        kind = {"anyOf": [kind, {"type": "null"}]}
    return described | kind


def _type(key: Key) -> dict[str, Any]:
    kind = key.type
    if isinstance(kind, ScalarType):
        return kind.schema
    if isinstance(kind, ListType):
        least = {} if kind.may_be_empty else {"minItems": 1}
        return {"anyOf": [kind.item.schema, {"type": "array", "items": kind.item.schema, **least}]}
    if isinstance(kind, MapType):
        return {"type": ["object", "null"], "additionalProperties": {"anyOf": [kind.value.schema, {"type": "null"}]}}
    return _structure(kind)


def _structure(kind: Block[Any] | Named | Listed | Later) -> dict[str, Any]:
    if isinstance(kind, Named):
        names = {"pattern": f"^{NAME.pattern}$"}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": block_schema(kind.block, nullable=False),
            "minProperties": 1,
        }
    if isinstance(kind, Listed):
        items = _shared(kind.block) if kind.one_will_do else block_schema(kind.block, nullable=False)
        listed = {"type": ["array", "null"], "items": items}
        return {"anyOf": [items, listed]} if kind.one_will_do else listed
    if isinstance(kind, Later):
        return {"type": "null", "$comment": f"not supported yet: {kind.feature}"}
    return _shared(kind) if kind in SHARED else block_schema(kind)


def _shared(block: Block[Any]) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{block.cls.__name__}"}
