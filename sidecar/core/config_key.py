"""What a field of `config.py` says of itself as a key of the configuration file: which values it takes, what it means.

A key type states the values only. How they are written, and described in JSON Schema, is `config/value_types.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    import re
    from dataclasses import Field

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
KEY = "key"


@dataclass(frozen=True, slots=True)
class KeyType(Generic[T_co]):
    """The values that a key can take: of one `form`, within `bounds`. A type checker sees whether a field and its
    default are of its key's type."""

    form: str
    bounds: tuple[Any, ...] = ()


ValueType: TypeAlias = KeyType[T] | type[T]
"""A class stands for itself: `bool`, an enum for one of its words, a dataclass for a block of its keys."""
IDENTIFIER: KeyType[str] = KeyType("identifier")
VIA_NAME: KeyType[str] = KeyType("name in Via")
FILE: KeyType[str] = KeyType("file")
"""A file that has to be there when the configuration is read."""
CONTENT_FILE: KeyType[str] = KeyType("content file")
"""One that is kept in memory, and may not exceed `LARGEST_CONTENT` octets."""
LARGEST_CONTENT = 1024 * 1024
DIRECTORY: KeyType[str] = KeyType("directory")
FIELD_NAME: KeyType[str] = KeyType("field name")
FIELD_VALUE: KeyType[str] = KeyType("field value")
TEXT: KeyType[str] = KeyType("text")
PARAMETER: KeyType[str] = KeyType("query parameter")
PATH: KeyType[str] = KeyType("path")
SEGMENTS: KeyType[str] = KeyType("path segments")
REGEX: KeyType[re.Pattern[bytes]] = KeyType("regular expression")
METHOD: KeyType[str] = KeyType("method")
HOST: KeyType[str] = KeyType("host")
STATUSES: KeyType[frozenset[int]] = KeyType("status codes")
NAMESPACE: KeyType[str] = KeyType("namespace")


def duration(*, zero: bool = False) -> KeyType[float]:
    """Seconds; more than none unless `zero`."""
    return KeyType("duration", (zero,))


def percentage(*, zero: bool = False) -> KeyType[float]:
    """A share, 0–1; more than none unless `zero`."""
    return KeyType("percentage", (zero,))


def size(least: int = 0) -> KeyType[int]:
    """Bytes, at least `least`."""
    return KeyType("size", (least,))


def whole(least: int = 0, most: int = 10**9) -> KeyType[int]:
    """A whole number within bounds."""
    return KeyType("whole", (least, most))


def number(least: float = 0.0) -> KeyType[float]:
    """A number, at least `least`."""
    return KeyType("number", (least,))


def tuple_of(item: KeyType[T], *, may_be_empty: bool = True) -> KeyType[tuple[T, ...]]:
    """Items in order, each once."""
    return KeyType("tuple", (item, may_be_empty))


def set_of(item: KeyType[T], *, may_be_empty: bool = True) -> KeyType[frozenset[T]]:
    """Items without order."""
    return KeyType("set", (item, may_be_empty))


def map_of(name: KeyType[T], value: KeyType[K]) -> KeyType[tuple[tuple[T, K | None], ...]]:
    """Free names, each with a value or None."""
    return KeyType("map", (name, value))


def blocks_of(cls: type[T]) -> KeyType[tuple[T, ...]]:
    """Blocks of keys in order, those of the dataclass `cls`; one alone stands for a list of one."""
    return KeyType("blocks", (cls,))


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a key's field carries. `required`: a file that leaves the key out is wrong, if the field has no default."""

    type: ValueType[Any]
    meaning: str
    required: bool = True


def key(default: T, kind: ValueType[T], meaning: str) -> T:
    """A field that is a key of the file, with what it means to leave it out."""
    return field(default=default, metadata={KEY: KeyFacts(kind, meaning)})


def block(cls: type[T], meaning: str) -> T:
    """A field that is a block of keys, those of the dataclass `cls`, each with its own default."""
    return field(default_factory=cls, metadata={KEY: KeyFacts(cls, meaning)})


def no_default(kind: ValueType[Any], meaning: str, *, required: bool = True) -> dict[str, KeyFacts]:
    """The metadata of a field that is a key without a default."""
    return {KEY: KeyFacts(kind, meaning, required)}


def facts_of(of: Field[Any]) -> KeyFacts | None:
    """What the field says of itself as a key; None when it is none."""
    found: KeyFacts | None = of.metadata.get(KEY)
    return found
