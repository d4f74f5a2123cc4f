"""Whatever a test of an adapter does, no connection takes a step that its table does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connection_states import recorded_states
from tests.support.phases import LEGAL, Step, watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.connection_states import StateRecorder


@pytest.fixture(autouse=True)
def legal_phases() -> Iterator[None]:
    """Of client connections."""
    taken: set[Step] = set()
    with watched(taken.add):
        yield
    assert taken <= LEGAL


@pytest.fixture(autouse=True)
def connection_states() -> Iterator[StateRecorder]:
    """Of upstream connections."""
    with recorded_states() as recorder:
        yield recorder
        assert recorder.illegal == set()
