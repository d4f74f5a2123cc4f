"""What a table of configuration keys is made of: blocks of keys, each with its type and its meaning."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

from sidecar.core.settings.config_types import ListType, MapType, ScalarType

T = TypeVar("T")


@dataclass(frozen=True)
class Later:
    """A feature that this version does not have: its key is known, and refused."""

    feature: str


@dataclass(frozen=True)
class Key:
    """One key. `nullable`: may be `null`, which then is a value of its own (mostly: off, no limit)."""

    name: str
    type: Type
    doc: str
    nullable: bool = False


@dataclass(frozen=True, eq=False)
class Block(Generic[T]):
    """A mapping with known keys that becomes a `cls`; a key's default is that dataclass's own.

    `optional`: keys without a default that may be left out all the same.
    """

    name: str
    cls: type[T]
    doc: str
    keys: tuple[Key, ...]
    optional: frozenset[str] = frozenset()

    @cached_property
    def by_name(self) -> dict[str, Key]:
        """The keys by name."""
        return {key.name: key for key in self.keys}

    @cached_property
    def required(self) -> frozenset[str]:
        """Keys that must be given."""
        without = (name for name in self.by_name if name in self._fields and not self.has_default(name))
        return frozenset(without) - self.optional

    def has_default(self, name: str) -> bool:
        """Whether the key called `name` may be left out and then means something."""
        field = self._fields.get(name)
        return field is not None and not (field.default is MISSING and field.default_factory is MISSING)

    def default(self, name: str) -> object:
        """What it means to leave the key called `name` out; only where `has_default`."""
        field = self._fields[name]
        return field.default if field.default_factory is MISSING else field.default_factory()

    @cached_property
    def _fields(self) -> dict[str, Field[Any]]:
        return {field.name: field for field in fields(self.cls)}  # type: ignore[arg-type]  # every cls is a dataclass


@dataclass(frozen=True)
class Named:
    """A mapping of free names, each to a block."""

    block: Block[Any]


@dataclass(frozen=True)
class Listed:
    """A list of blocks."""

    block: Block[Any]


Type: TypeAlias = ScalarType | ListType | MapType | Block[Any] | Named | Listed | Later
