"""Which transitions a circuit's settings allow, so that its metrics can show them before they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import Cause, OverrideMode, State
from sidecar.core.config import BreakerMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.circuit.explanation import Standing
    from sidecar.core.config import BreakerSettings


def possible_transitions(settings: BreakerSettings, *, restorable: bool) -> Iterator[tuple[Standing, Cause]]:
    """What a transition can lead to, and why. `restorable`: a state of before a restart may be taken up."""
    if settings.mode is not BreakerMode.OFF:
        yield from _automatic(settings)
        if restorable:
            yield State.OPEN, Cause.RESTORED
    yield State.CLOSED, Cause.RESET
    for mode in OverrideMode:
        yield mode, Cause.OVERRIDE_SET
        if restorable:
            yield mode, Cause.RESTORED
    # An override ends in whatever state the machine beneath it has reached.
    for state in State if settings.mode is not BreakerMode.OFF else (State.CLOSED,):
        yield state, Cause.OVERRIDE_REMOVED
        yield state, Cause.OVERRIDE_EXPIRED


def _automatic(settings: BreakerSettings) -> Iterator[tuple[Standing, Cause]]:
    for cause, threshold in (
        (Cause.FAILURE_THRESHOLD, settings.failure_threshold),
        (Cause.FAILURE_RATE, settings.failure_rate),
        (Cause.SLOW_RATE, settings.slow_rate),
    ):
        if threshold is not None:
            yield State.OPEN, cause
    yield State.OPEN, Cause.PROBE_FAILED
    yield State.HALF_OPEN, Cause.OPEN_DURATION_ELAPSED
    yield State.CLOSED, Cause.PROBES_SUCCEEDED
    # By a reload, and then it is counted the moment that the new settings are in force.
    yield State.CLOSED, Cause.SWITCHED_OFF
