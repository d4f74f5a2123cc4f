"""What a circuit says about itself: events, trips, samples and snapshots, as frozen values with one wording.

Two clocks appear here. Times of the machine (`at`, `since`, `next_probe_at`, `expires_at`) are monotonic seconds:
whoever serializes one shifts it by a (monotonic, wall) pair read at that moment. `Sample.at` is wall time, because a
sample only ever leaves the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.wording import counted

if TYPE_CHECKING:
    from sidecar.core.circuit.outcome import Outcome
    from sidecar.core.config import BreakerMode

SAMPLES_KEPT = 10


class State(Enum):
    """Where the automatic machine stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class OverrideMode(Enum):
    """What an operator forces: refuse all, admit all, or admit all and count what would have happened."""

    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    OBSERVE = "observe"


Standing: TypeAlias = State | OverrideMode
"""What holds for requests: the automatic state, or the override above it. `.value` is the word for it everywhere."""


class Cause(Enum):
    """Why a circuit changed: the `cause` label of sidecar_circuit_transitions_total."""

    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    PROBE_FAILED = "probe_failed"
    OPEN_DURATION_ELAPSED = "open_duration_elapsed"
    PROBES_SUCCEEDED = "probes_succeeded"
    RESET = "reset"
    SWITCHED_OFF = "switched_off"
    RESTORED = "restored"
    FLEET_OPENED = "fleet_opened"
    FLEET_CLOSED = "fleet_closed"
    OVERRIDE_SET = "override_set"
    OVERRIDE_REMOVED = "override_removed"
    OVERRIDE_EXPIRED = "override_expired"


SETTINGS = {
    Cause.FAILURE_THRESHOLD: "breaker.failure_threshold",
    Cause.FAILURE_RATE: "breaker.failure_rate",
    Cause.SLOW_RATE: "breaker.slow_rate",
    Cause.PROBE_FAILED: "breaker.failures",
    Cause.OPEN_DURATION_ELAPSED: "breaker.open_duration",
    Cause.PROBES_SUCCEEDED: "breaker.success_threshold",
    Cause.SWITCHED_OFF: "breaker.mode",
}
"""The setting that decided, by cause; a cause that is nobody's setting is absent."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One failing or slow request. `at` is wall seconds when it ended, `duration` seconds; one of `status` and
    `error` (an error's reason label) is set, neither when it was still in flight.
    """

    at: float
    request_id: str
    method: str
    path: str
    status: int | None
    error: str | None
    duration: float


@dataclass(frozen=True, slots=True)
class WindowView:
    """What the window holds at one moment. `consecutive_failures` lies outside of it and does not decay. Rates are
    0–1, and 0 while `requests` is 0.
    """

    requests: int = 0
    failures: int = 0
    slow: int = 0
    consecutive_failures: int = 0

    @property
    def failure_rate(self) -> float:
        """Share of failures, 0–1."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def slow_rate(self) -> float:
        """Share of slow requests, 0–1."""
        return self.slow / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a circuit left closed: the sentence with the numbers that crossed, what the window held then, and up to
    ten samples, oldest first. `config_ref` is `file:line` of the setting, None when no file names it. A failed probe
    is no trip: it prolongs what one began.
    """

    cause: Cause
    at: float
    detail: str
    window: WindowView
    samples: tuple[Sample, ...] = ()
    config_ref: str | None = None


@dataclass(frozen=True, slots=True)
class LastProbe:
    """What a half-open circuit learned last from a probe, and when. `outcome` None: nothing by `probe_timeout`.
    `sample` is the request, where one was made of it.
    """

    at: float
    outcome: Outcome | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's forced state. It ends by itself at `expires_at`, or never when that is None.

    `fleet`: it is the whole fleet's, and `stamp` numbers the operators' words about this circuit.
    """

    mode: OverrideMode
    reason: str
    actor: str
    set_at: float
    expires_at: float | None
    fleet: bool = False
    stamp: int = 0

    def ended(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Transition:
    """Something happened to a circuit: the one event that log, metrics, API and state file hear of.

    `source` → `target`; `detail` says in words, with numbers, why. `next_probe_in` is seconds until a request may
    probe, None unless `target` is open. `enforced` is False for what the automatic machine did while it refused
    nobody (mode or override observe) or under another override.
    """

    circuit: str
    source: Standing
    target: Standing
    cause: Cause
    at: float
    detail: str
    window: WindowView
    samples: tuple[Sample, ...] = ()
    next_probe_in: float | None = None
    config_ref: str | None = None
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class SavedCircuit:
    """What of a circuit outlives its process; times monotonic. `open_until` None: it was closed."""

    open_until: float | None = None
    reopenings: int = 0
    trip: Trip | None = None
    override: Override | None = None
    last_trip: Trip | None = None
    last_probe: LastProbe | None = None


@dataclass(frozen=True, slots=True)
class WouldHave:
    """What a circuit that only observes would have done: times opened, requests refused, and how many of those
    requests then failed.
    """

    opened: int = 0
    refused: int = 0
    avoided_failures: int = 0

    @property
    def sentence(self) -> str:
        """The three counts as one sentence."""
        return (
            f"would have opened {counted(self.opened, 'time')}, refused {counted(self.refused, 'request')}, "
            f"avoided {counted(self.avoided_failures, 'failure')}"
        )


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """Everything there is to know about a circuit at one moment.

    `effective_state` is the override's word when one forces; observing, by mode or by override, is effectively
    closed. `next_probe_at` (monotonic) and `retry_after` (seconds, what a refused client is told) are None while
    requests pass. `trip` is why it is not closed, `last_trip` what it recovered from last.
    """

    name: str
    mode: BreakerMode
    state: State
    effective_state: Standing
    override: Override | None
    since: float
    next_probe_at: float | None
    retry_after: float | None
    window: WindowView
    trip: Trip | None
    last_trip: Trip | None
    last_probe: LastProbe | None
    probes_in_flight: int
    probe_successes: int
    reopenings: int
    would_have: WouldHave
    config_ref: str | None


def span(seconds: float) -> str:
    """A duration as the configuration would write it, to the millisecond."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def share(rate: float) -> str:
    """A rate 0–1 as a percentage."""
    return f"{rate * 100:.1f}".removesuffix(".0") + "%"
