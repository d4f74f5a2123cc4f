"""The keys of the configuration file, block by block, as the dataclasses of `core/config.py` declare them.

Reader, JSON Schema and settings view walk these blocks. Here stand only the outline of the file and the keys that no
field holds: another way to write one (`url`), a layer below others (`defaults`), features that this version does not
have.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from sidecar.config.value_types import ListType, MapType, ScalarType, value_type
from sidecar.core.config import ENDPOINT, Config, Match, PerRoute, RouteConfig, UpstreamConfig
from sidecar.core.config_key import KeyType, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config_key import ValueType

T = TypeVar("T")
NO_DEFAULT = object()


@dataclass(frozen=True)
class Later:
    """A feature that this version does not have: its key is known, and refused."""

    feature: str


@dataclass(frozen=True)
class Key:
    """One key. `nullable`: may be `null`, which then is a value of its own (mostly: off, no limit)."""

    name: str
    type: Type
    meaning: str
    nullable: bool = False
    required: bool = False
    default: object = NO_DEFAULT

    @property
    def has_default(self) -> bool:
        """Whether leaving the key out means the value `default`."""
        return self.default is not NO_DEFAULT


@dataclass(frozen=True, eq=False)
class Block(Generic[T]):
    """A mapping with known keys that becomes a `cls`."""

    name: str
    cls: type[T]
    keys: tuple[Key, ...]

    @cached_property
    def by_name(self) -> dict[str, Key]:
        """The keys by name."""
        return {key.name: key for key in self.keys}

    @cached_property
    def required(self) -> frozenset[str]:
        """Keys that must be given."""
        return frozenset(key.name for key in self.keys if key.required)


@dataclass(frozen=True)
class Named:
    """A mapping of free names, each to a block."""

    block: Block[Any]


@dataclass(frozen=True)
class Listed:
    """A list of blocks. `one_will_do`: a block alone stands for a list of one."""

    block: Block[Any]
    one_will_do: bool = False


Type: TypeAlias = ScalarType | ListType | MapType | Block[Any] | Named | Listed | Later


@cache
def block_of(cls: type[T], name: str) -> Block[T]:
    """The block called `name` with the keys that the fields of `cls` declare."""
    return Block(name, cls, tuple(_declared(cls)))


def _declared(cls: type[Any]) -> Iterator[Key]:
    for field in fields(cls):
        if facts := facts_of(field):
            nullable = str(field.type).endswith("| None")
            required = facts.required and field.default is MISSING and field.default_factory is MISSING
            default = NO_DEFAULT if field.default is MISSING else field.default
            yield Key(field.name, _type(field.name, facts.type), facts.meaning, nullable, required, default)


def _type(name: str, kind: ValueType[Any]) -> Type:
    if isinstance(kind, KeyType) and kind.form == "blocks":
        return Listed(block_of(*kind.bounds, name), one_will_do=True)
    return block_of(kind, name) if isinstance(kind, type) and is_dataclass(kind) else value_type(kind)


URL = Key("url", value_type(ENDPOINT), "its one address: http://host:port, https://host or unix:/path.sock")

PER_ROUTE = block_of(PerRoute, "route").keys
"""What a route inherits from its upstream."""
UPSTREAM = Block("upstream", UpstreamConfig, (URL, *block_of(UpstreamConfig, "upstream").keys))
DEFAULTS = Block(
    "defaults", UpstreamConfig, tuple(key for key in UPSTREAM.keys if key.name not in {"url", "endpoints"})
)
MATCH = block_of(Match, "match")
ROUTE = block_of(RouteConfig, "route")
PROCESS = block_of(Config, "configuration").keys
"""What a process has once: its listeners and stores."""
ROOT = Block(
    "configuration",
    Config,
    (
        *PROCESS,
        Key("defaults", DEFAULTS, "merged under every upstream, key by key"),
        Key("upstreams", Named(UPSTREAM), "services behind the sidecar, by name", required=True),
        Key("routes", Listed(ROUTE), "which requests go where; an upstream without one gets /<name>/, stripped"),
    ),
)
