"""A configuration text as a tree that has no types yet: scalars are source text, and everything knows its place.

The reader types them, by the keys; so no YAML guess (`on`, `010`, `1:30`) changes what was meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sidecar.config.problem import Position

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """Source text, quotes and escapes undone. Only a `plain` (unquoted) one can stand for nothing."""

    text: str
    plain: bool
    at: Position


@dataclass(frozen=True, slots=True)
class Sequence:
    """Ordered nodes."""

    items: tuple[Node, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping."""

    key: Scalar
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Entries by key, in the order of the text; keys are unique."""

    entries: dict[str, Entry]
    at: Position


Node: TypeAlias = Scalar | Sequence | Mapping


def kind_of(node: Node) -> str:
    """What a reader of the file would call the node."""
    if isinstance(node, Mapping):
        return "a mapping"
    return "a list" if isinstance(node, Sequence) else "a single value"
