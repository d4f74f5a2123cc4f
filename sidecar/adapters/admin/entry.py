"""One row of the table of calls, from which the application, its list and its OpenAPI document are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.adapters.admin.problems import Call

Schema: TypeAlias = "Mapping[str, object]"
"""A JSON Schema (2020-12, as in OpenAPI 3.1)."""

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Entry:
    """One call: its method, path and meaning, and the parameters that its query may have.

    `body`: what may be sent, `needs_body` whether it must be; `gives`: members that each answer has; `media_type` of
    the answer; `tagged`: the answer has an ETag.
    """

    method: str
    path: str
    call: Call
    meaning: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    needs_body: bool = False
    gives: tuple[str, ...] = ()
    media_type: str = "application/json"
    tagged: bool = False


def text(longest: int | None = None) -> Schema:
    """A text, of so many characters at most."""
    return {"type": "string"} if longest is None else {"type": "string", "maxLength": longest}


def whole(least: int, most: int) -> Schema:
    """A whole number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def members(schemas: Mapping[str, Schema], *required: str) -> Schema:
    """An object with these members and no others."""
    return {"type": "object", "properties": dict(schemas), "required": list(required), "additionalProperties": False}
