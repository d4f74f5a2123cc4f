"""Circuits as plain JSON values: the one wording that log, API, dashboard and `sidecar ctl` share (contract.md §4).

Rates are 0–1, durations of requests milliseconds, other spans seconds, times RFC 3339 in UTC.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.explanation import State
from sidecar.core.fallback import upstream_of
from sidecar.core.fleet.messages import CircuitView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.bulkhead import Bulkhead
    from sidecar.core.circuit.explanation import (
        CircuitSnapshot,
        LastProbe,
        Override,
        Sample,
        Transition,
        Trip,
        WindowView,
    )
    from sidecar.core.config import Fault
    from sidecar.core.fault import ActiveFault, FaultChange
    from sidecar.core.fleet.messages import FleetView

Json: TypeAlias = "dict[str, object]"

REDACTED = "(redacted)"
SECRET_FIELD = re.compile(r"auth|cookie|token|secret|key|passw|credential|session")
"""Names of fields whose value is likely a secret."""
DAYS_TO_EPOCH = 719_468
"""Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar."""
DAYS_PER_ERA = 146_097
"""Days in 400 years."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant read on both clocks, seconds; what makes the machine's monotonic times into dates."""

    monotonic: float
    wall: float

    def date(self, at: float) -> str:
        """The RFC 3339 form of the monotonic time `at`."""
        return rfc3339(self.wall + at - self.monotonic)

    def optional_date(self, at: float | None) -> str | None:
        """`at` as RFC 3339 in UTC, or None where there is no time."""
        return None if at is None else self.date(at)


def rfc3339(wall: float) -> str:
    """`wall`, seconds since 1970 UTC, as `2025-01-31T12:00:00.250Z`."""
    seconds, milliseconds = divmod(int(wall * 1000), 1000)
    days, second = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    minutes, second = divmod(second, 60)
    hour, minute = divmod(minutes, 60)
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{milliseconds:03d}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that leap days end them."""
    era, day_of_era = divmod(days + DAYS_TO_EPOCH, DAYS_PER_ERA)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    return era * 400 + year_of_era + (month <= 2), month, day


def sentence(transition: Transition) -> str:
    """What happened, in words."""
    arrow = f"{transition.source.value} → {transition.target.value}"
    refusing = "" if transition.enforced else " (nothing is refused by it)"
    return f"circuit {transition.circuit}: {arrow}{refusing}: {transition.detail}"


def transition_report(transition: Transition, moment: Moment) -> Json:
    """A transition whole: from, to, cause, the numbers that crossed, samples, next probe, where the setting stands."""
    probe_in = transition.next_probe_in
    return {
        "from": transition.source.value,
        "to": transition.target.value,
        "cause": transition.cause.value,
        "detail": transition.detail,
        "enforced": transition.enforced,
        "window": window_report(transition.window),
        "samples": [sample_report(sample) for sample in transition.samples],
        "next_probe_at": None if probe_in is None else moment.date(transition.at + probe_in),
        "config_ref": transition.config_ref,
    }


def circuit_report(snapshot: CircuitSnapshot, upstream: str, moment: Moment, fleet: FleetView | None = None) -> Json:
    """A circuit as the API shows it; its route has the circuit's name, and a fallback upstream's own has no route.
    `fleet`: None where there is none.
    """
    shared = {} if fleet is None else {"fleet": fleet_report(snapshot.name, fleet, moment)}
    return {
        "name": snapshot.name,
        "route": None if upstream_of(snapshot.name) else snapshot.name,
        "upstream": upstream,
        "mode": snapshot.mode.value,
        "state": snapshot.state.value,
        "effective_state": snapshot.effective_state.value,
        "override": None if snapshot.override is None else override_report(snapshot.override, moment),
        "since": moment.date(snapshot.since),
        "next_probe_at": moment.optional_date(snapshot.next_probe_at),
        "retry_after": snapshot.retry_after,
        "window": window_report(snapshot.window),
        "trip": None if snapshot.trip is None else trip_report(snapshot.trip, moment),
        "last_trip": None if snapshot.last_trip is None else trip_report(snapshot.last_trip, moment),
        "last_probe": None if snapshot.last_probe is None else probe_report(snapshot.last_probe, moment),
        "probes_in_flight": snapshot.probes_in_flight,
        "probe_successes": snapshot.probe_successes,
        "reopenings": snapshot.reopenings,
        "would_have": {
            "opened": snapshot.would_have.opened,
            "refused": snapshot.would_have.refused,
            "avoided_failures": snapshot.would_have.avoided_failures,
            "sentence": snapshot.would_have.sentence,
        },
        "config_ref": snapshot.config_ref,
        **shared,
    }


def fleet_report(circuit: str, fleet: FleetView, moment: Moment) -> Json:
    """A circuit across the fleet. `disagree`: pods that opened theirs, while the fleet's is closed. `leader`: who
    probes. `fresh` is false for what was not looked up in Redis just now.
    """
    view = fleet.circuits.get(circuit) or CircuitView()
    state = State.CLOSED if view.record is None else view.record.state
    pooled = view.pooled
    return {
        "state": state.value,
        "members": [
            {"id": one.id, "version": one.version, "seen": moment.date(moment.monotonic - one.seen)}
            for one in fleet.members
        ],
        "votes": len(view.voters),
        "leader": next(iter(view.probing), None),
        "disagree": list(view.voters) if state is State.CLOSED else [],
        "window": {
            "requests": pooled.requests,
            "failures": pooled.failures,
            "slow": pooled.slow,
            "failure_rate": pooled.failures / pooled.requests if pooled.requests else 0.0,
        },
        "fresh": fleet.fresh,
    }


def bulkhead_report(route: str, bulkhead: Bulkhead) -> Json:
    """The bulkhead of a route as it is now. Where it adapts: the median time to an answer, also without load, in
    seconds, None while nothing was measured.
    """
    adaptive = bulkhead.adaptive
    return {
        "route": route,
        "adaptive": adaptive is not None,
        "limit": bulkhead.limit,
        "in_use": bulkhead.in_use,
        "queued": bulkhead.queued,
        "latency": None if adaptive is None else adaptive.latency,
        "no_load_latency": None if adaptive is None else adaptive.no_load,
        "detail": f"max_concurrent is {bulkhead.limit}" if adaptive is None else adaptive.why,
    }


def override_report(override: Override, moment: Moment) -> Json:
    """An override; `expires_at` is None when it never does."""
    return {
        "mode": override.mode.value,
        "reason": override.reason,
        "actor": override.actor,
        "set_at": moment.date(override.set_at),
        "expires_at": moment.optional_date(override.expires_at),
        "scope": "fleet" if override.fleet else "pod",
    }


def trip_report(trip: Trip, moment: Moment) -> Json:
    """Why a circuit left closed."""
    return {
        "cause": trip.cause.value,
        "at": moment.date(trip.at),
        "detail": trip.detail,
        "window": window_report(trip.window),
        "samples": [sample_report(sample) for sample in trip.samples],
        "config_ref": trip.config_ref,
    }


def probe_report(probe: LastProbe, moment: Moment) -> Json:
    """What the last probe met. One that brought nothing by `probe_timeout` has that for an error."""
    sample = probe.sample
    given_up = probe.outcome is None
    return {
        "at": moment.date(probe.at),
        "outcome": "given_up" if probe.outcome is None else probe.outcome.value,
        "status": None if sample is None else sample.status,
        "error": "probe_timeout" if given_up else None if sample is None else sample.error,
        "request_id": None if sample is None else sample.request_id,
        "method": None if sample is None else sample.method,
        "path": None if sample is None else sample.path,
        "duration_ms": None if sample is None else round(sample.duration * 1000, 3),
    }


def window_report(window: WindowView) -> Json:
    """What a window holds."""
    return {
        "requests": window.requests,
        "failures": window.failures,
        "slow": window.slow,
        "failure_rate": window.failure_rate,
        "slow_rate": window.slow_rate,
        "consecutive_failures": window.consecutive_failures,
    }


def fault_report(route: str, fault: ActiveFault, moment: Moment) -> Json:
    """A fault in force, in the words of its block."""
    return {
        "route": route,
        **_block(fault.settings),
        "actor": fault.actor,
        "reason": fault.reason,
        "set_at": moment.date(fault.set_at),
        "ends_at": moment.date(fault.ends_at),
        "seconds_left": round(max(0.0, fault.ends_at - moment.monotonic), 3),
    }


def fault_change_report(change: FaultChange) -> Json:
    """What happened to a fault: by whom, why, and which one it is."""
    told = {"route": change.route, "action": change.action, "actor": change.actor, "reason": change.reason}
    return {**told, "fault": _block(change.fault.settings)}


def _block(fault: Fault) -> Json:
    """What it does; times in seconds, shares 0–1."""
    block = {name: value for name, value in asdict(fault).items() if value is not None}
    block["match"] = {"methods": sorted(fault.match.methods), "headers": redacted(fault.match.headers)}
    return block


def redacted(fields: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """Fields of a configuration by name, without values that are likely secrets."""
    return {name: REDACTED if value is not None and SECRET_FIELD.search(name) else value for name, value in fields}


def sample_report(sample: Sample) -> Json:
    """One failing or slow request."""
    return {
        "at": rfc3339(sample.at),
        "request_id": sample.request_id,
        "method": sample.method,
        "path": sample.path,
        "status": sample.status,
        "error": sample.error,
        "duration_ms": round(sample.duration * 1000, 3),
    }
