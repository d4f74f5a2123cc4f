"""The references in config/: every configuration key, and every metric, from the code that has them.

`python -m tests.support.references` writes them anew; tests/test_references.py fails when they are out of date.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from sidecar.config.keys import DEFAULTS, MATCH, PER_ROUTE, PROCESS, ROOT, ROUTE, UPSTREAM, Block, Key, Later
from sidecar.config.settings_view import shown
from sidecar.config.value_types import ListType, MapType, ScalarType
from tests.support.running import InProcess, config_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = Path(__file__).resolve().parents[2] / "config"
KEYS, METRICS = FOLDER / "REFERENCE.md", FOLDER / "METRICS.md"
GENERATED = "Made from the code by `make references`; do not edit."
HEAD = ("| key | value | default | meaning |", "|---|---|---|---|")


def configuration() -> str:
    """Every key, block by block."""
    lines = [
        "# Configuration reference",
        "",
        f"{GENERATED} `complete.yaml` shows the same as one file, `schema.json` as JSON Schema for editors.",
        "",
        "An upstream inherits from `defaults`, a route from its upstream, key by key. Keys that a route may override",
        f"stand under `defaults`: {', '.join(f'`{key.name}`' for key in PER_ROUTE)}.",
        "",
    ]
    single = [key for key in PROCESS if not isinstance(key.type, Block)]
    lines += ["## Top level", "", *HEAD, *map(_row, single), ""]
    for key in PROCESS:
        if isinstance(key.type, Block):
            lines += _block(key.name, key.meaning, key.type.keys)
    lines += _block("defaults", ROOT.by_name["defaults"].meaning, DEFAULTS.keys)
    own = [key for key in UPSTREAM.keys if key not in DEFAULTS.keys]
    lines += _block("upstreams.NAME", "services behind the sidecar, by name; beside all of `defaults`", own)
    inherited = {key.name for key in PER_ROUTE}
    route = [key for key in ROUTE.keys if key.name not in inherited and key.name != "match"]
    lines += _block("routes[]", ROOT.by_name["routes"].meaning, [*route, ROUTE.by_name["match"]])
    assert ROUTE.by_name["match"].type is MATCH
    return "\n".join(lines).rstrip("\n") + "\n"


def _block(name: str, meaning: str, keys: Iterable[Key]) -> Iterator[str]:
    """The table of a block, and then those of the blocks in it."""
    here = [key for key in keys if not isinstance(key.type, Later)]
    yield from (f"## `{name}`", "", f"{meaning[0].upper()}{meaning[1:]}.", "")
    values = [key for key in here if not isinstance(key.type, Block)]
    if values:
        yield from (*HEAD, *map(_row, values), "")
    for key in here:
        if isinstance(key.type, Block):
            yield from _block(f"{name}.{key.name}", key.meaning, key.type.keys)


def _row(key: Key) -> str:
    without = "required" if key.required else ""
    default = f"`{_written(shown(key, key.default))}`" if key.has_default else without
    return f"| `{key.name}` | {_values(key)} | {default} | {_cell(key.meaning)} |"


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _values(key: Key) -> str:
    match key.type:
        case ScalarType(label=label):
            said = label
        case ListType(item=item):
            said = f"{item.label}, or a list"
        case MapType(key=name, value=value):
            said = f"{name.label}: {value.label}"
        case _:
            said = ""
    return _cell(said + (", or null" if key.nullable else ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


async def metrics() -> str:
    """Every metric, with the labels that its series have on a sidecar that has just begun."""
    sidecar = await InProcess.start(config_text("http://127.0.0.1:9", upstream={"cache": {"mode": "standard"}}))
    try:
        page = (await sidecar._ask("telemetry", "GET", "/metrics")).decode()
    finally:
        await sidecar.stop()
    lines = ["# Metrics reference", "", f"{GENERATED} Labels come from names in the configuration only.", ""]
    lines += ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(page):
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown_labels = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {family.type} | {shown_labels} | {_cell(family.documentation)} |")
    return "\n".join(lines) + "\n"


async def main() -> None:
    """Write both."""
    KEYS.write_text(configuration())
    METRICS.write_text(await metrics())


if __name__ == "__main__":
    uvloop.run(main())
