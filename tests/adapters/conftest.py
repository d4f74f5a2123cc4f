"""Whatever a test does to the sidecar: its client connections take no step that their table does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.phases import LEGAL, Step, watched

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def legal_phases() -> Iterator[None]:
    """After a test: every phase that a connection entered may follow the one before it."""
    taken: set[Step] = set()
    with watched(taken.add):
        yield
    assert taken <= LEGAL
