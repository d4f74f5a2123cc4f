"""The references in config/ are those of this code."""

from __future__ import annotations

import re

from sidecar.adapters.metrics.families import FAMILIES
from sidecar.config.keys import PROCESS, UPSTREAM, Block, Later
from tests.support.references import KEYS, METRICS, configuration, metrics


def test_the_configuration_reference_is_up_to_date() -> None:
    assert KEYS.read_text() == configuration(), "make references"


def test_the_configuration_reference_has_every_key() -> None:
    text = KEYS.read_text()
    for block in (Block("", object, PROCESS), UPSTREAM):
        for key in block.keys:
            assert isinstance(key.type, Later) or re.search(rf"`(?:[\w.]+\.)?{key.name}`", text), key.name


async def test_the_metrics_reference_is_up_to_date() -> None:
    assert METRICS.read_text() == await metrics(), "make references"


def test_the_metrics_reference_has_every_metric() -> None:
    text = METRICS.read_text()
    assert [family.name for family in FAMILIES if f"| `{family.name}` |" not in text] == []
