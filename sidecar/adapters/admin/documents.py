"""A block of the configuration that somebody sent as JSON: read by the schema, what is wrong pointed at."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from sidecar.adapters.admin.bodies import pointer
from sidecar.adapters.admin.problems import BodyError
from sidecar.config.document import Entry, Mapping, Scalar, Sequence
from sidecar.config.problem import Position, Problems
from sidecar.config.reader import Reader
from sidecar.config.sections import construct

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.document import Node
    from sidecar.config.keys import Block
    from sidecar.config.sections import Section

T = TypeVar("T")


def read_block(
    block: Block[T], content: dict[str, object], check: Callable[[Section | None, Problems], None]
) -> tuple[T | None, list[BodyError]]:
    """What `content` says of `block`, and every error in it; `check` looks at what single keys do not tell."""
    document, problems = _Document(), Problems()
    node = document.node(content, "#")
    # Nothing that a caller sends may name variables or files of this process.
    section = Reader({}, lambda _, __: "files are not read here", problems).document(block, node)
    check(section, problems)
    made = construct(block, section, problems) if section is not None else None
    errors = [
        BodyError(document.pointers[found.line], f"{found.message}; {found.hint}" if found.hint else found.message)
        for found in problems.listed()
    ]
    return made, errors


class _Document:
    """Makes nodes of JSON values. The line of a node's position is its number in `pointers`."""

    def __init__(self) -> None:
        self.pointers: dict[int, str] = {}
        self._numbers = count(1)

    def node(self, value: object, at: str) -> Node:
        """The node of `value`, to which the pointer `at` leads."""
        position = self._place(at)
        if isinstance(value, dict):
            return Mapping({name: self._entry(name, item, at) for name, item in value.items()}, position)
        if isinstance(value, list):
            return Sequence(tuple(self.node(item, f"{at}/{index}") for index, item in enumerate(value)), position)
        if isinstance(value, str):
            return Scalar(value, plain=False, at=position)
        return Scalar(_text(value), plain=True, at=position)

    def _entry(self, name: str, item: object, at: str) -> Entry:
        inner = at + pointer(name).removeprefix("#")
        return Entry(Scalar(name, plain=False, at=self._place(inner)), self.node(item, inner))

    def _place(self, at: str) -> Position:
        number = next(self._numbers)
        self.pointers[number] = at
        return Position(number, 1)


def _text(value: object) -> str:
    """A JSON literal as a configuration would have it: numbers without an exponent."""
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return json.dumps(value)
