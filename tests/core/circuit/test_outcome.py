from __future__ import annotations

import pytest

from sidecar.core.circuit.outcome import Outcome, of_status
from sidecar.core.config import BreakerSettings

DEFAULT = BreakerSettings()
LISTED = BreakerSettings(failures=frozenset({404, 429, 500}), ignore=frozenset({500, 501, 200}))


@pytest.mark.parametrize(
    ("settings", "status", "outcome"),
    [
        (DEFAULT, 200, Outcome.SUCCESS),
        (DEFAULT, 304, Outcome.SUCCESS),
        (DEFAULT, 404, Outcome.SUCCESS),
        (DEFAULT, 429, Outcome.THROTTLED),
        (DEFAULT, 500, Outcome.FAILURE),
        (DEFAULT, 501, Outcome.SUCCESS),
        (DEFAULT, 502, Outcome.FAILURE),
        (DEFAULT, 503, Outcome.FAILURE),
        (DEFAULT, 504, Outcome.FAILURE),
        (LISTED, 404, Outcome.FAILURE),
        (LISTED, 429, Outcome.FAILURE),
        (LISTED, 500, Outcome.IGNORED),
        (LISTED, 501, Outcome.IGNORED),
        (LISTED, 200, Outcome.IGNORED),
        (LISTED, 503, Outcome.SUCCESS),
        (BreakerSettings(ignore=frozenset({429})), 429, Outcome.IGNORED),
    ],
)
def test_the_lists_decide_first_then_429_is_throttled_and_the_rest_succeeded(
    settings: BreakerSettings, status: int, outcome: Outcome
) -> None:
    assert of_status(status, settings) is outcome
