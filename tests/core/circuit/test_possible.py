from __future__ import annotations

import pytest

from sidecar.core.circuit.possible import possible_transitions
from sidecar.core.config import BreakerMode, BreakerSettings

OVERRIDES = {
    *((mode, "override_set") for mode in ("forced_open", "forced_closed", "observe")),
    *((state, cause) for state in ("closed",) for cause in ("override_removed", "override_expired", "reset")),
}
ENDS_ELSEWHERE = {
    (state, cause) for state in ("open", "half_open") for cause in ("override_removed", "override_expired")
}
PROBING = {
    ("open", "probe_failed"),
    ("half_open", "open_duration_elapsed"),
    ("closed", "probes_succeeded"),
    ("closed", "switched_off"),
}
RESTORED = {(mode, "restored") for mode in ("forced_open", "forced_closed", "observe")}
THRESHOLDS = {("open", "failure_threshold"), ("open", "failure_rate")}
EVERYTHING = OVERRIDES | ENDS_ELSEWHERE | PROBING

CASES = {
    "the defaults": (BreakerSettings(), False, EVERYTHING | THRESHOLDS),
    "all thresholds": (BreakerSettings(slow_rate=0.5), False, EVERYTHING | THRESHOLDS | {("open", "slow_rate")}),
    "one threshold": (
        BreakerSettings(failure_threshold=None),
        False,
        EVERYTHING | {("open", "failure_rate")},
    ),
    "observing": (BreakerSettings(mode=BreakerMode.OBSERVE), False, EVERYTHING | THRESHOLDS),
    "with a state file": (BreakerSettings(), True, EVERYTHING | THRESHOLDS | RESTORED | {("open", "restored")}),
    "off": (BreakerSettings(mode=BreakerMode.OFF), False, OVERRIDES),
    "off, with a state file": (BreakerSettings(mode=BreakerMode.OFF), True, OVERRIDES | RESTORED),
}


@pytest.mark.parametrize(("settings", "restorable", "expected"), CASES.values(), ids=CASES)
def test_exactly_what_the_settings_allow(
    *, settings: BreakerSettings, restorable: bool, expected: set[tuple[str, str]]
) -> None:
    found = [(target.value, cause.value) for target, cause in possible_transitions(settings, restorable=restorable)]

    assert set(found) == expected
    assert len(found) == len(expected)
