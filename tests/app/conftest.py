"""Sidecars in this process, started from files that tests rewrite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.configured import Configured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.adapters.logs import LineSink
    from tests.conftest import StartOrigin


class Configure(Protocol):
    async def __call__(self, text: str, sink: LineSink | None = ...) -> Configured: ...


@pytest.fixture
async def configure(
    tmp_path: Path,
    start_origin: StartOrigin,  # noqa: ARG001 - origins outlive it
) -> AsyncIterator[Configure]:
    """Start a sidecar from a configuration's text; each has a file of its own."""
    started: list[Configured] = []

    async def start(text: str, sink: LineSink | None = None) -> Configured:
        sidecar = await Configured.begin(tmp_path / f"sidecar{len(started)}.yaml", text, sink)
        started.append(sidecar)
        return sidecar

    yield start
    for sidecar in started:
        sidecar.hang_up()
        await sidecar.stop()
