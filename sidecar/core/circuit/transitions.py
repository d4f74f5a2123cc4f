"""The states of a circuit as one table: what leads from which state to which, and the cause that is told of it.

`AUTOMATIC` is the machine's, which moves by it (`next_state`); `OVERRIDES` is the layer above, where an operator's word
hides the machine's state for as long as it holds. A cause stands for one event in a state, so (state, cause) → state
is a function; a pair that is not here never happens, and who asks for it has made a mistake. What does not move a
circuit (a call that crosses no threshold, a probe that decides nothing) has no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.circuit.explanation import SETTINGS, Cause, OverrideMode, Standing, State
from sidecar.core.config import BreakerMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import BreakerSettings


class Row(NamedTuple):
    """From any of `sources`, on `event`, if `guard` holds, to one of `targets`."""

    sources: tuple[Standing, ...]
    event: str
    guard: str
    targets: tuple[Standing, ...]
    cause: Cause


CLOSED, OPEN, HALF_OPEN = (State.CLOSED,), (State.OPEN,), (State.HALF_OPEN,)
STATES: tuple[Standing, ...] = tuple(State)
MODES: tuple[Standing, ...] = tuple(OverrideMode)

OF_A_FLEET = frozenset({Cause.FLEET_OPENED, Cause.FLEET_CLOSED})
COUNTED = "a call is counted"
ENOUGH = "the window holds `minimum_requests`, and"

AUTOMATIC = (
    Row(CLOSED, COUNTED, "`failure_threshold` failures in a row", OPEN, Cause.FAILURE_THRESHOLD),
    Row(CLOSED, COUNTED, f"{ENOUGH} `failure_rate` of them failed", OPEN, Cause.FAILURE_RATE),
    Row(CLOSED, COUNTED, f"{ENOUGH} `slow_rate` of them were slow", OPEN, Cause.SLOW_RATE),
    Row(
        OPEN,
        "a request asks",
        "the open period is over; an unsafe method also waits until no safe one came for `open_duration`",
        HALF_OPEN,
        Cause.OPEN_DURATION_ELAPSED,
    ),
    Row(HALF_OPEN, "a probe succeeds", "`success_threshold` of them have", CLOSED, Cause.PROBES_SUCCEEDED),
    Row(HALF_OPEN, "a probe fails", "", OPEN, Cause.PROBE_FAILED),
    Row(STATES, "an operator resets it", "", CLOSED, Cause.RESET),
    Row((*OPEN, *HALF_OPEN), "the configuration is read again", "`mode` is `off` now", CLOSED, Cause.SWITCHED_OFF),
    Row(CLOSED, "the process starts", "it was not closed when the last one ended", OPEN, Cause.RESTORED),
    Row(
        (*CLOSED, *HALF_OPEN),
        "the fleet opens it",
        "`fleet.quorum` sidecars opened theirs, or the probe of another one failed",
        OPEN,
        Cause.FLEET_OPENED,
    ),
    Row((*OPEN, *HALF_OPEN), "the fleet closes it", "the probes of all together succeeded", CLOSED, Cause.FLEET_CLOSED),
)
"""Two guards of one event that hold at once: the upper row counts (breaker.md 3)."""

OVERRIDES = (
    Row((*STATES, *MODES), "an operator overrides it", "", MODES, Cause.OVERRIDE_SET),
    Row(MODES, "an operator takes the override back", "", STATES, Cause.OVERRIDE_REMOVED),
    Row(MODES, "time passes", "the override's `ttl` is over", STATES, Cause.OVERRIDE_EXPIRED),
    Row((*CLOSED, *OPEN), "the process starts", "there was an override, not over yet", MODES, Cause.RESTORED),
)
"""Without an override it is in the state that the machine has beneath."""

_NEXT: dict[tuple[State, Cause], State] = {
    (source, row.cause): target
    for row in AUTOMATIC
    for source in row.sources
    for target in row.targets
    if isinstance(source, State) and isinstance(target, State)
}


def next_state(state: State, cause: Cause) -> State:
    """Where the automatic machine goes. Raises RuntimeError for what cannot happen in `state`."""
    target = _NEXT.get((state, cause))
    if target is None:
        raise RuntimeError(f"no transition from {state.value} by {cause.value}")
    return target


def possible_transitions(
    settings: BreakerSettings, *, restorable: bool, shared: bool = False
) -> Iterator[tuple[Standing, Cause]]:
    """Which transitions `settings` allow, as (to, cause), so that metrics can show them before they happen.

    `restorable`: what an earlier process left may be taken up. `shared`: a fleet may open and close it.
    """
    off = settings.mode is BreakerMode.OFF
    standings = {State.CLOSED, *MODES} if off else {*STATES, *MODES}
    for row in (*AUTOMATIC, *OVERRIDES):
        if not _allowed(row.cause, settings, restorable=restorable, shared=shared) or standings.isdisjoint(row.sources):
            continue
        for target in row.targets:
            if target in standings:
                yield target, row.cause


def _allowed(cause: Cause, settings: BreakerSettings, *, restorable: bool, shared: bool) -> bool:
    """Not by a threshold that is not set, nor by a fleet where there is none; nothing is restored that is not saved."""
    if cause in OF_A_FLEET:
        return shared and settings.mode is BreakerMode.ENFORCE
    if cause is Cause.RESTORED:
        return restorable
    setting = SETTINGS.get(cause)
    return setting is None or getattr(settings, setting.removeprefix("breaker.")) is not None
