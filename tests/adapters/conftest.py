"""What all tests of adapters are held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connection_states import recorded_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.connection_states import StateRecorder


@pytest.fixture(autouse=True)
def connection_states() -> Iterator[StateRecorder]:
    """No upstream connection goes from one state to another that may not follow it."""
    with recorded_states() as recorder:
        yield recorder
        assert recorder.illegal == set()
