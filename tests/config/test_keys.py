import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.config import keys
from sidecar.config.document import Entry, Mapping, Scalar
from sidecar.config.json_schema import block_schema
from sidecar.config.keys import Block, Key, Later, Listed, Named
from sidecar.config.problem import Position, Problem, Problems
from sidecar.config.reader import Reader
from sidecar.config.sections import construct
from sidecar.config.settings_view import settings
from sidecar.config.value_types import ListType, ScalarType
from sidecar.core import config, fleet_settings
from sidecar.core import config_key as k


def blocks(block: Block[Any]) -> Iterator[Block[Any]]:
    yield block
    for key in block.keys:
        kind = key.type.block if isinstance(key.type, Named | Listed) else key.type
        if isinstance(kind, Block):
            yield from blocks(kind)


BLOCKS = {block.cls.__name__ + "/" + block.name: block for block in blocks(keys.ROOT)}
MADE_ELSEWHERE = {
    keys.ROOT: {"source", "refs"},
    keys.DEFAULTS: {"name", "endpoints", "refs"},
    keys.UPSTREAM: {"name", "refs"},
    keys.ROUTE: {"refs", "implicit"},
}
"""Fields that are no keys."""


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_setting_has_its_key_and_every_key_its_setting(block: Block[Any]) -> None:
    fields = {field.name for field in dataclasses.fields(block.cls)} - MADE_ELSEWHERE.get(block, set())
    expected = {key.name for key in block.keys if not isinstance(key.type, Later)}
    expected -= {"defaults"} if block is keys.ROOT else {"url"} if block in {keys.UPSTREAM, keys.DEFAULTS} else set()
    assert fields == expected


SCALARS = {
    f"{block.cls.__name__}.{key.name}": key
    for block in BLOCKS.values()
    for key in block.keys
    if isinstance(key.type, ScalarType | ListType) and key.has_default
}


@pytest.mark.parametrize("key", SCALARS.values(), ids=SCALARS)
def test_a_default_reads_back_as_itself(key: Key) -> None:
    default = key.default
    if default is None:
        assert key.nullable
    elif isinstance(key.type, ScalarType):
        assert key.type.parse(written(key.type.show(default))) == default
    elif isinstance(key.type, ListType):
        item = key.type.item
        assert key.type.collect([item.parse(written(each)) for each in key.type.show(default)]) == default


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_null_is_allowed_exactly_where_the_setting_can_be_none(block: Block[Any]) -> None:
    known = {**vars(config), **vars(fleet_settings)}
    hints = typing.get_type_hints(block.cls, {**known, "re": __import__("re"), "Mapping": dict})
    for key in block.keys:
        if key.name in hints and isinstance(key.type, ScalarType | ListType | Block):
            assert key.nullable == (type(None) in typing.get_args(hints[key.name])), key.name


def test_every_key_says_what_it_means() -> None:
    assert all(key.meaning and not key.meaning.endswith(".") for block in BLOCKS.values() for key in block.keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Patience(config.Timeouts):
    """A block with one line more."""

    queue: float | None = k.key(0.25, k.duration(), "how long it may stand in a queue; null: for ever")


PATIENCE = keys.block_of(Patience, "timeouts")
AT = Position(3, 5)


def patience(**values: str) -> tuple[Patience | None, tuple[Problem, ...]]:
    """The block and the problems that a file makes in which `values` stand."""
    problems = Problems()
    entries = {
        name: Entry(Scalar(name, plain=True, at=AT), Scalar(text, plain=True, at=AT)) for name, text in values.items()
    }
    section = Reader({}, lambda _, __: "", problems).document(PATIENCE, Mapping(entries, AT))
    assert section is not None
    return construct(PATIENCE, section, problems), problems.listed()


@pytest.mark.parametrize(("text", "value"), [("2s", 2.0), ("null", None)])
def test_a_line_in_a_dataclass_makes_a_key_that_is_read(text: str, value: float | None) -> None:
    assert patience(queue=text) == (Patience(queue=value), ())
    assert patience(connect="3s") == (Patience(connect=3.0, queue=0.25), ())


def test_a_line_in_a_dataclass_makes_a_key_that_is_checked() -> None:
    _, (problem,) = patience(queue="2")
    assert problem.message == "queue: '2' is not a duration"
    _, (problem,) = patience(queu="2s")
    assert problem.hint == "did you mean 'queue'?"


def test_a_line_in_a_dataclass_makes_a_key_that_is_described_and_shown() -> None:
    described = block_schema(PATIENCE)["properties"]["queue"]
    assert described["description"] == "how long it may stand in a queue; null: for ever"
    assert described["default"] == "250ms"
    assert {"type": "null"} in described["anyOf"]
    assert dict(settings(PATIENCE.keys, Patience(queue=90.0)))["queue"] == "90s"
