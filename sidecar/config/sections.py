"""What a configuration file says, typed but not yet complete: layers that are merged and then filled with defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.config.keys import Listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.config.keys import Block, Key
    from sidecar.config.problem import Position, Problems

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that the file gives. `at` is the value's place, `key_at` its key's."""

    value: Any
    at: Position
    key_at: Position


@dataclass(slots=True)
class Section:
    """One block of the file: its settings. `failed` names keys whose value could not be read: given, but unknown."""

    at: Position
    settings: dict[str, Setting | Section] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def setting(self, name: str) -> Setting | None:
        """The value called `name`, when given and not a block."""
        found = self.settings.get(name)
        return found if isinstance(found, Setting) else None

    def block(self, name: str) -> Section | None:
        """The block called `name`, when given and not null."""
        found = self.settings.get(name)
        return found if isinstance(found, Section) else None

    def says(self, name: str) -> bool:
        """Whether the file gives `name`, readable or not."""
        return name in self.settings or name in self.failed


def merge(lower: Section | None, upper: Section) -> Section:
    """`upper` laid over `lower`, key by key and block by block; `upper`'s place."""
    if lower is None:
        return upper
    merged = Section(upper.at, dict(lower.settings), lower.failed | upper.failed)
    for name, said in upper.settings.items():
        below = merged.settings.get(name)
        both = isinstance(said, Section) and isinstance(below, Section)
        merged.settings[name] = merge(below, said) if both else said  # type: ignore[arg-type]  # narrowed by `both`
    return merged


def restricted(section: Section, names: frozenset[str]) -> Section:
    """Only the settings called one of `names`."""
    settings = {name: said for name, said in section.settings.items() if name in names}
    return Section(section.at, settings, section.failed & names)


def values_of(keys: Iterable[Key], section: Section | None, problems: Problems) -> dict[str, Any]:
    """The values of those `keys` that the section gives, blocks as their dataclasses; a block that lacks a key is
    None, with an error."""
    values: dict[str, Any] = {}
    for key in keys:
        said = section.settings.get(key.name) if section else None
        if isinstance(said, Section):
            values[key.name] = construct(key.type, said, problems)  # type: ignore[arg-type]  # a Section comes from a Block
        elif said is not None and isinstance(key.type, Listed) and said.value is not None:
            found = (construct(key.type.block, item, problems) for item in said.value)
            values[key.name] = tuple(item for item in found if item is not None)
        elif said is not None:
            values[key.name] = said.value
    return values


def construct(block: Block[T], section: Section, problems: Problems, **more: object) -> T | None:
    """The block's dataclass from what is given, `more`, and defaults; None, with an error, when a key is missing."""
    values = values_of(block.keys, section, problems) | more
    missing = block.required - values.keys()
    for name in sorted(missing - section.failed):
        problems.error(section.at, f"{block.name} needs {name}", block.by_name[name].meaning)
    return None if missing else block.cls(**values)


def places(section: Section, prefix: str = "") -> Iterator[tuple[str, Position]]:
    """Each dotted setting with the place of its key; a block is itself a setting."""
    for name, said in section.settings.items():
        dotted = f"{prefix}{name}"
        if isinstance(said, Section):
            yield dotted, said.at
            yield from places(said, f"{dotted}.")
        else:
            yield dotted, said.key_at
