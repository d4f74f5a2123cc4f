"""A circuit under test: its events, and short ways to let requests end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import Sample, Transition
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import HEALTHY, Permit, Refusal, Verdict
from sidecar.core.circuit.transitions import AUTOMATIC, OVERRIDES
from sidecar.core.config import Backoff, BreakerSettings, CountWindow

OPEN_FOR = 10.0
SETTINGS = BreakerSettings(
    failure_threshold=3,
    failure_rate=None,
    window=CountWindow(10),
    minimum_requests=4,
    open_duration=OPEN_FOR,
    backoff=Backoff(multiplier=2.0, max=100.0, jitter=0.0),
    half_open_probes=1,
    success_threshold=1,
    probe_timeout=5.0,
)


class Bench:
    """One circuit, the transitions it told of, and what its listener's failures were."""

    def __init__(self, now: float = 0.0, /, **changes: object) -> None:
        self.events: list[Transition] = []
        self.errors: list[Exception] = []
        self.chance = 0.5
        self.refs = {"breaker.failure_threshold": "sidecar.yaml:7", "breaker": "sidecar.yaml:6"}
        hooks = Hooks(lambda: self.chance, self._note, self.errors.append)
        settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]  # the case tables name fields
        self.circuit = Circuit("catalog", settings, hooks, now, self.refs)

    def _note(self, event: Transition) -> None:
        require_row(event)
        self.events.append(event)

    @property
    def state(self) -> str:
        return self.circuit.state.value

    @property
    def steps(self) -> list[tuple[str, str, str]]:
        """Every transition as (from, to, cause)."""
        return [(event.source.value, event.target.value, event.cause.value) for event in self.events]

    def admit(self, now: float, *, safe: bool = True) -> Permit:
        """A permit whose request is sent at once."""
        verdict = self.circuit.ask(now, safe=safe)
        assert isinstance(verdict, Permit), verdict
        self.circuit.sent(verdict, now, lambda: sample(now))
        return verdict

    def refused(self, now: float, *, safe: bool = True) -> Refusal:
        """The refusal, which the pure look must have foretold, unless time opened the circuit only now."""
        foretold = self.circuit.peek(now, safe=safe)
        verdict = self.circuit.ask(now, safe=safe)
        assert isinstance(verdict, Refusal), verdict
        assert foretold == verdict or self.circuit.watches_slow
        return verdict

    def head(self, permit: Permit, now: float, verdict: Verdict = HEALTHY) -> Permit:
        """The head of its answer arrives; the body flows on."""
        self.circuit.answered(permit, now, verdict)
        return permit

    def end(self, permit: Permit, outcome: Outcome, now: float, retry_after: float | None = None) -> None:
        self.circuit.settle(permit, outcome, now, describe=lambda: sample(now), retry_after=retry_after)

    def call(self, outcome: Outcome, now: float, *, took: float = 0.0, retry_after: float | None = None) -> None:
        """A request from `now` for `took` seconds."""
        self.end(self.admit(now), outcome, now + took, retry_after)

    def trip(self, now: float = 0.0) -> None:
        """Open it by consecutive failures."""
        while self.state == "closed":
            self.call(Outcome.FAILURE, now)

    def half_open(self, now: float = 0.0) -> Permit:
        """Trip, wait, and take the probe."""
        self.trip(now)
        return self.admit(self.circuit.snapshot(now).next_probe_at or 0.0)


def sample(at: float, request_id: str | None = None) -> Sample:
    return Sample(at, request_id or f"r{at:g}", "GET", "/items", 503, None, 0.1)


def require_row(event: Transition) -> None:
    """Fail the test on a transition that the table does not have."""
    rows = (row for row in (*AUTOMATIC, *OVERRIDES) if row.cause is event.cause)
    if not any(event.source in row.sources and event.target in row.targets for row in rows):
        pytest.fail(f"no row has {event}")
