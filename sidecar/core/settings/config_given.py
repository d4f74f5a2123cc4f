"""What a configuration file says, typed but not yet complete: layers that are merged and then filled with defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.settings.config_schema import Block
    from sidecar.core.settings.problem import Position, Problems

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that the file gives. `at` is the value's place, `key_at` its key's."""

    value: Any
    at: Position
    key_at: Position


@dataclass(slots=True)
class Given:
    """The settings of one block. `failed` names keys whose value could not be read: given, but unknown."""

    at: Position
    settings: dict[str, Setting | Given] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def setting(self, name: str) -> Setting | None:
        """The value called `name`, when given and not a block."""
        found = self.settings.get(name)
        return found if isinstance(found, Setting) else None

    def block(self, name: str) -> Given | None:
        """The block called `name`, when given and not null."""
        found = self.settings.get(name)
        return found if isinstance(found, Given) else None

    def says(self, name: str) -> bool:
        """Whether the file gives `name`, readable or not."""
        return name in self.settings or name in self.failed


def merge(lower: Given | None, upper: Given) -> Given:
    """`upper` laid over `lower`, key by key and block by block; `upper`'s place."""
    if lower is None:
        return upper
    merged = Given(upper.at, dict(lower.settings), lower.failed | upper.failed)
    for name, said in upper.settings.items():
        below = merged.settings.get(name)
        both = isinstance(said, Given) and isinstance(below, Given)
        merged.settings[name] = merge(below, said) if both else said  # type: ignore[arg-type]  # narrowed by `both`
    return merged


def restricted(given: Given, names: frozenset[str]) -> Given:
    """Only the settings called one of `names`."""
    return Given(given.at, {name: said for name, said in given.settings.items() if name in names}, given.failed & names)


def construct(block: Block[T], given: Given | None, problems: Problems, **more: object) -> T | None:
    """The block's dataclass from what is given, `more`, and defaults; None, with an error, when a key is missing."""
    values = dict(more)
    for name, said in given.settings.items() if given else ():
        key = block.by_name[name]
        values[name] = said.value if isinstance(said, Setting) else construct(key.type, said, problems)  # type: ignore[arg-type]  # a Given comes from a Block
    missing = block.required - values.keys()
    for name in sorted(missing):
        if given and name not in given.failed:
            problems.error(given.at, f"{block.name} needs {name}", block.by_name[name].doc)
    return None if missing else block.cls(**values)


def places(given: Given, prefix: str = "") -> Iterator[tuple[str, Position]]:
    """Each dotted setting with the place of its key; a block is itself a setting."""
    for name, said in given.settings.items():
        dotted = f"{prefix}{name}"
        if isinstance(said, Given):
            yield dotted, said.at
            yield from places(said, f"{dotted}.")
        else:
            yield dotted, said.key_at
