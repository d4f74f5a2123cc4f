"""Every file in config/ works and says the truth."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sidecar.adapters.config_file import load
from sidecar.config import keys
from sidecar.config.json_schema import schema
from sidecar.config.keys import Block, Later, Listed, Named
from sidecar.core.config import Config, Timeouts

FOLDER = Path(__file__).parent.parent / "config"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


def loaded(path: Path, **environ: str) -> Config:
    result = load(path, environ)
    assert result.problems == ()
    assert result.config is not None
    return result.config


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_without_a_finding(path: Path) -> None:
    assert loaded(path).routes


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
@pytest.mark.parametrize("reader", [yaml.SafeLoader, yaml.BaseLoader], ids=["YAML 1.1", "all text"])
def test_an_example_fits_the_schema(path: Path, reader: type[yaml.SafeLoader]) -> None:
    document = yaml.load(path.read_text(), reader)  # noqa: S506 - both build plain data only
    jsonschema.Draft202012Validator(schema()).validate(without_nulls(document))


def without_nulls(node: Any) -> Any:
    """The all-text reader knows no null, and to a YAML 1.1 reader the key `on` is true; to editors it is a word."""
    if isinstance(node, dict):
        return {"on" if key is True else key: without_nulls(value) for key, value in node.items() if value != "null"}
    return [without_nulls(item) for item in node] if isinstance(node, list) else node


def test_the_schema_file_is_current() -> None:
    assert json.loads((FOLDER / "schema.json").read_text()) == schema(), "run: sidecar schema > config/schema.json"


def names(block: Block[Any]) -> Iterator[str]:
    for key in block.keys:
        if not isinstance(key.type, Later):
            yield key.name
        kind = key.type.block if isinstance(key.type, Named | Listed) else key.type
        if isinstance(kind, Block):
            yield from names(kind)


def test_the_complete_example_names_every_key() -> None:
    text = (FOLDER / "complete.yaml").read_text()
    assert [name for name in names(keys.ROOT) if not re.search(rf"\b{name}:", text)] == []


def test_the_complete_example_shows_the_defaults() -> None:
    complete = loaded(FOLDER / "complete.yaml")
    bare = Config(complete.upstreams, complete.routes, source=complete.source, refs=complete.refs)
    assert complete == bare
    catalog, minimal = complete.upstreams[0], loaded(FOLDER / "minimal.yaml").upstreams[0]
    names = "tls pool health preserve_host timeouts breaker cache retry bulkhead rate_limit"
    for block in names.split():
        assert getattr(catalog, block) == getattr(minimal, block), block


def test_the_pod_example_takes_its_variables() -> None:
    config = loaded(FOLDER / "sidecar.yaml", SIDECAR_CACHE_SIZE="128MiB", POD_NAMESPACE="shop")
    assert config.cache.max_size == 128 << 20
    assert config.upstreams[0].endpoints[0].host == "catalog.shop.svc.cluster.local"
    assert config.upstreams[0].timeouts == Timeouts(first_byte=5.0, total=30.0)
