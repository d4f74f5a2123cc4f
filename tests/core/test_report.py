import json

import pytest

from sidecar.core.circuit.explanation import (
    Cause,
    CircuitSnapshot,
    LastProbe,
    Override,
    OverrideMode,
    Sample,
    State,
    Transition,
    Trip,
    WindowView,
    WouldHave,
)
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.config import BreakerMode
from sidecar.core.report import Moment, circuit_report, rfc3339, sentence, transition_report, trip_report

MOMENT = Moment(monotonic=1000.0, wall=1_764_000_000.0)
SAMPLE = Sample(1_763_999_989.25, "id-1", "GET", "/items?q=1", 503, None, 0.0421239)
SAMPLE_REPORT = {
    "at": "2025-11-24T15:59:49.250Z",
    "request_id": "id-1",
    "method": "GET",
    "path": "/items?q=1",
    "status": 503,
    "error": None,
    "duration_ms": 42.124,
}
WINDOW = WindowView(requests=8, failures=6, slow=2, consecutive_failures=5)
WINDOW_REPORT = {
    "requests": 8,
    "failures": 6,
    "slow": 2,
    "failure_rate": 0.75,
    "slow_rate": 0.25,
    "consecutive_failures": 5,
}


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
        (951_782_400.0, "2000-02-29T00:00:00.000Z"),
        (951_868_799.999, "2000-02-29T23:59:59.999Z"),
        (951_868_800.0, "2000-03-01T00:00:00.000Z"),
        (1_735_689_599.9996, "2024-12-31T23:59:59.999Z"),
        (1_764_000_000.25, "2025-11-24T16:00:00.250Z"),
        (4_107_542_400.0, "2100-03-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(wall: float, text: str) -> None:
    assert rfc3339(wall) == text


def test_times_of_the_machine_become_dates_by_one_look_at_both_clocks() -> None:
    assert MOMENT.date(1015.5) == "2025-11-24T16:00:15.500Z"
    assert MOMENT.date(940.0) == "2025-11-24T15:59:00.000Z"
    assert MOMENT.optional_date(None) is None


OPENED = Transition(
    circuit="catalog",
    source=State.CLOSED,
    target=State.OPEN,
    cause=Cause.FAILURE_THRESHOLD,
    at=990.0,
    detail="5 consecutive failures, failure_threshold is 5",
    window=WINDOW,
    samples=(SAMPLE,),
    next_probe_in=15.0,
    config_ref="sidecar.yaml:12",
)


def test_a_transition_is_told_whole() -> None:
    assert transition_report(OPENED, MOMENT) == {
        "from": "closed",
        "to": "open",
        "cause": "failure_threshold",
        "detail": "5 consecutive failures, failure_threshold is 5",
        "enforced": True,
        "window": WINDOW_REPORT,
        "samples": [SAMPLE_REPORT],
        "next_probe_at": "2025-11-24T16:00:05.000Z",
        "config_ref": "sidecar.yaml:12",
    }


def test_a_transition_has_a_sentence() -> None:
    assert sentence(OPENED) == "circuit catalog: closed → open: 5 consecutive failures, failure_threshold is 5"


def test_a_sentence_says_when_nothing_is_refused_by_it() -> None:
    observed = Transition("a", State.CLOSED, State.OPEN, Cause.FAILURE_RATE, 1.0, "why", WINDOW, enforced=False)
    assert sentence(observed) == "circuit a: closed → open (nothing is refused by it): why"
    assert transition_report(observed, MOMENT)["next_probe_at"] is None


def snapshot(
    override: Override | None, trip: Trip | None, last_trip: Trip | None = None, last_probe: LastProbe | None = None
) -> CircuitSnapshot:
    return CircuitSnapshot(
        name="catalog",
        mode=BreakerMode.ENFORCE,
        state=State.OPEN,
        effective_state=State.OPEN if override is None else override.mode,
        override=override,
        since=990.0,
        next_probe_at=1005.0,
        retry_after=5.0,
        window=WINDOW,
        trip=trip,
        last_trip=last_trip,
        last_probe=last_probe,
        probes_in_flight=0,
        probe_successes=1,
        reopenings=2,
        would_have=WouldHave(3, 214, 198),
        config_ref="sidecar.yaml:10",
    )


def test_an_open_circuit_is_shown_as_the_contract_has_it() -> None:
    trip = Trip(Cause.FAILURE_RATE, 990.0, "75% of 8 requests failed", WINDOW, (SAMPLE,), "sidecar.yaml:11")
    report = circuit_report(snapshot(None, trip), "shop", MOMENT)
    assert report == {
        "name": "catalog",
        "route": "catalog",
        "upstream": "shop",
        "mode": "enforce",
        "state": "open",
        "effective_state": "open",
        "override": None,
        "since": "2025-11-24T15:59:50.000Z",
        "next_probe_at": "2025-11-24T16:00:05.000Z",
        "retry_after": 5.0,
        "window": WINDOW_REPORT,
        "trip": {
            "cause": "failure_rate",
            "at": "2025-11-24T15:59:50.000Z",
            "detail": "75% of 8 requests failed",
            "window": WINDOW_REPORT,
            "samples": [SAMPLE_REPORT],
            "config_ref": "sidecar.yaml:11",
        },
        "last_trip": None,
        "last_probe": None,
        "probes_in_flight": 0,
        "probe_successes": 1,
        "reopenings": 2,
        "would_have": {
            "opened": 3,
            "refused": 214,
            "avoided_failures": 198,
            "sentence": "would have opened 3 times, refused 214 requests, avoided 198 failures",
        },
        "config_ref": "sidecar.yaml:10",
    }
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_trip_it_recovered_from_is_shown_like_the_one_it_is_in() -> None:
    trip = Trip(Cause.FAILURE_RATE, 990.0, "75% of 8 requests failed", WINDOW, (SAMPLE,), "sidecar.yaml:11")
    shown = [circuit_report(snapshot(None, *trips), "shop", MOMENT) for trips in ((trip, None), (None, trip))]
    assert [(report["trip"], report["last_trip"]) for report in shown] == [
        (trip_report(trip, MOMENT), None),
        (None, trip_report(trip, MOMENT)),
    ]


NO_REQUEST = {"status": None, "error": None, "request_id": None, "method": None, "path": None, "duration_ms": None}


@pytest.mark.parametrize(
    ("probe", "shown"),
    [
        (
            LastProbe(990.0, Outcome.FAILURE, SAMPLE),
            {"outcome": "failure", **{key: value for key, value in SAMPLE_REPORT.items() if key != "at"}},
        ),
        (LastProbe(990.0, Outcome.SUCCESS), {"outcome": "success", **NO_REQUEST}),
        (LastProbe(990.0), {"outcome": "given_up", **NO_REQUEST, "error": "probe_timeout"}),
    ],
    ids=["with its request", "without", "given up"],
)
def test_the_last_probe_tells_when_it_was_and_what_it_met(probe: LastProbe, shown: dict[str, object]) -> None:
    report = circuit_report(snapshot(None, None, None, probe), "shop", MOMENT)["last_probe"]
    assert report == {"at": "2025-11-24T15:59:50.000Z", **shown}


@pytest.mark.parametrize(
    ("expires_at", "shown"), [(1900.0, "2025-11-24T16:15:00.000Z"), (None, None)], ids=["in a while", "never"]
)
def test_an_override_tells_when_it_ends(expires_at: float | None, shown: str | None) -> None:
    override = Override(OverrideMode.FORCED_OPEN, "deploy", "alice", 1000.0, expires_at)
    report = circuit_report(snapshot(override, None), "shop", MOMENT)
    assert (report["effective_state"], report["state"], report["trip"]) == ("forced_open", "open", None)
    assert report["override"] == {
        "mode": "forced_open",
        "reason": "deploy",
        "actor": "alice",
        "set_at": "2025-11-24T16:00:00.000Z",
        "expires_at": shown,
        "scope": "pod",
    }
