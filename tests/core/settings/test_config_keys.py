import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.core import config
from sidecar.core.settings import config_keys as keys
from sidecar.core.settings.config_schema import Block, Key, Later, Listed, Named
from sidecar.core.settings.config_types import ListType, ScalarType


def blocks(block: Block[Any]) -> Iterator[Block[Any]]:
    yield block
    for key in block.keys:
        kind = key.type.block if isinstance(key.type, Named | Listed) else key.type
        if isinstance(kind, Block):
            yield from blocks(kind)


BLOCKS = {block.cls.__name__ + "/" + block.name: block for block in blocks(keys.ROOT)}
MADE_ELSEWHERE = {
    keys.ROOT: {"source"},
    keys.DEFAULTS: {"name", "endpoints", "refs"},
    keys.UPSTREAM: {"name", "refs"},
    keys.ROUTE: {"refs", "implicit"},
}
"""Fields that are no keys."""


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_setting_has_its_key_and_every_key_its_setting(block: Block[Any]) -> None:
    fields = {field.name for field in dataclasses.fields(block.cls)} - MADE_ELSEWHERE.get(block, set())
    expected = {key.name for key in block.keys if not isinstance(key.type, Later)} - {"defaults", "url"}
    assert fields == expected


SCALARS = {
    f"{block.cls.__name__}.{key.name}": (block, key)
    for block in BLOCKS.values()
    for key in block.keys
    if isinstance(key.type, ScalarType | ListType) and block.has_default(key.name)
}


@pytest.mark.parametrize(("block", "key"), SCALARS.values(), ids=SCALARS)
def test_a_default_reads_back_as_itself(block: Block[Any], key: Key) -> None:
    default = block.default(key.name)
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
    hints = typing.get_type_hints(block.cls, {**vars(config), "re": __import__("re"), "Mapping": dict})
    for key in block.keys:
        if key.name in hints and isinstance(key.type, ScalarType | ListType | Block):
            assert key.nullable == (type(None) in typing.get_args(hints[key.name])), key.name


def test_every_key_says_what_it_means() -> None:
    assert all(key.doc and not key.doc.endswith(".") for block in BLOCKS.values() for key in block.keys)
