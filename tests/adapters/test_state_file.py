from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.state_file import load, save
from sidecar.core.circuit.explanation import (
    Cause,
    LastProbe,
    Override,
    OverrideMode,
    Sample,
    SavedCircuit,
    Trip,
    WindowView,
)
from sidecar.core.circuit.outcome import Outcome

if TYPE_CHECKING:
    from pathlib import Path

WALL = 1_764_000_000.0
TRIP = Trip(
    Cause.FAILURE_RATE,
    90.0,
    "3 of 4 requests failed",
    WindowView(4, 3, 1, 2),
    (Sample(WALL, "r1", "GET", "/a", 503, None, 0.25), Sample(WALL, "r2", "PUT", "/ä", None, "dns_error", 1.5)),
    "sidecar.yaml:7",
)
OVERRIDE = Override(OverrideMode.FORCED_OPEN, "deploy", "ann", 95.0, 130.0)
SAVED = {
    "open": SavedCircuit(120.0, 3, TRIP),
    "forced": SavedCircuit(override=OVERRIDE),
    "for ever": SavedCircuit(override=Override(OverrideMode.OBSERVE, "", "", 99.0, None)),
    "both": SavedCircuit(120.0, 0, None, OVERRIDE),
    "recovered": SavedCircuit(last_trip=TRIP, last_probe=LastProbe(98.0, Outcome.SUCCESS, TRIP.samples[0])),
    "probed": SavedCircuit(120.0, 3, TRIP, None, TRIP, LastProbe(98.0, Outcome.FAILURE, TRIP.samples[1])),
    "given up": SavedCircuit(120.0, 3, TRIP, last_probe=LastProbe(98.0)),
}


class FakeClock:
    """Reads `now` and `time`, apart from each other as after a boot."""

    def __init__(self, now: float, time: float) -> None:
        self.now = now
        self.time = time

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "circuits.json"


def test_what_was_saved_is_loaded(path: Path) -> None:
    clock = FakeClock(100.0, WALL)
    save(path, SAVED, clock)
    assert load(path, clock) == SAVED


def test_no_file_is_no_state(path: Path) -> None:
    assert load(path, FakeClock(0.0, WALL)) == {}


def test_times_move_to_the_new_process_s_clock(path: Path) -> None:
    save(path, SAVED, FakeClock(100.0, WALL))
    loaded = load(path, FakeClock(7.0, WALL + 15.0))
    assert loaded["open"].open_until == pytest.approx(12.0)
    override, trip = loaded["forced"].override, loaded["open"].trip
    assert override is not None
    assert trip is not None
    assert [override.set_at, override.expires_at] == pytest.approx([-13.0, 22.0])
    assert trip.at == pytest.approx(-18.0)
    assert trip.samples == TRIP.samples
    last_trip, last_probe = loaded["probed"].last_trip, loaded["probed"].last_probe
    assert last_trip is not None
    assert last_probe is not None
    assert [last_trip.at, last_probe.at] == pytest.approx([-18.0, -10.0])


def test_a_file_from_before_last_trips_and_probes_were_kept_is_loaded(path: Path) -> None:
    trip = (
        '{"cause": "failure_threshold", "at": 1763999990.0, "detail": "why", "window": {"requests": 3, "failures": 3, '
        '"slow": 0, "consecutive_failures": 3}, "samples": [], "config_ref": null}'
    )
    circuit = f'{{"reopenings": 1, "open_until": 1764000020.0, "trip": {trip}}}'
    path.write_text(f'{{"version": 1, "circuits": {{"a": {circuit}}}}}')
    expected = Trip(Cause.FAILURE_THRESHOLD, 90.0, "why", WindowView(3, 3, 0, 3))
    assert load(path, FakeClock(100.0, WALL)) == {"a": SavedCircuit(120.0, 1, expected)}


def test_an_override_that_expired_while_nobody_ran_is_over(path: Path) -> None:
    save(path, SAVED, FakeClock(100.0, WALL))
    override = load(path, FakeClock(7.0, WALL + 31.0))["forced"].override
    assert override is not None
    assert override.ended(7.0)


def test_saving_replaces_the_file_whole_and_leaves_nothing_else(path: Path) -> None:
    clock = FakeClock(100.0, WALL)
    save(path, SAVED, clock)
    before = path.stat().st_ino
    save(path, {}, clock)
    assert path.stat().st_ino != before
    assert load(path, clock) == {}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_that_was_cut_short_leaves_the_old_state(path: Path) -> None:
    clock = FakeClock(100.0, WALL)
    save(path, SAVED, clock)
    path.with_name("circuits.json.new").write_text('{"version": 1, "circ')
    assert load(path, clock) == SAVED
    save(path, SAVED, clock)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def content(**circuit: Any) -> str:
    return json.dumps({"version": 1, "circuits": {"a": {"reopenings": 0, **circuit}}})


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 2, "circuits": {}}',
        b'{"version": 1, "circuits": []}',
        b'{"version": 1, "circuits": {"a": 1}}',
        content(reopenings=-1).encode(),
        content(reopenings=True).encode(),
        content(open_until="soon").encode(),
        content(open_until=True).encode(),
        b'{"version": 1, "circuits": {"a": {"reopenings": 0, "open_until": NaN}}}',
        b'{"version": 1, "circuits": {"a": {"reopenings": 0, "open_until": 1e999}}}',
        content(override={"mode": "forced"}).encode(),
        content(override={"mode": "maybe", "reason": "", "actor": "", "set_at": 1, "expires_at": None}).encode(),
        content(override={"mode": "observe", "reason": 1, "actor": "", "set_at": 1, "expires_at": None}).encode(),
        content(trip={"cause": "failure_rate"}).encode(),
        content(last_trip={"cause": "failure_rate"}).encode(),
        content(last_probe={"at": 1, "outcome": "maybe", "sample": None}).encode(),
    ],
    ids=[
        "empty", "cut", "a list", "null", "no version", "not UTF-8", "nested deep", "a newer version",
        "circuits no map", "circuit no map", "negative count", "boolean count", "text for a time",
        "boolean time", "not a number", "infinite", "override without fields", "unknown mode", "reason no text",
        "trip without fields", "last trip without fields", "a probe's unknown outcome",
    ],
)  # fmt: skip
def test_a_damaged_file_is_set_aside_with_a_warning(
    path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(damage)
    assert load(path, FakeClock(0.0, WALL)) == {}
    assert not path.exists()
    assert path.with_name("circuits.json.damaged").read_bytes() == damage
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "damaged" in record.getMessage()


def test_a_file_that_cannot_be_read_is_left_where_it_is(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    assert load(path, FakeClock(0.0, WALL)) == {}
    assert path.is_dir()
    assert "cannot be read" in caplog.text


def test_a_damaged_file_that_cannot_be_set_aside_does_not_stop_the_start(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("{")
    blocked = path.with_name("circuits.json.damaged")
    blocked.mkdir()
    (blocked / "kept").touch()
    assert load(path, FakeClock(0.0, WALL)) == {}
    assert "cannot be set aside" in caplog.text


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "circuits.json"
    (tmp_path / "circuits.json.new").touch(0o644)
    before = os.umask(0)
    try:
        save(path, {}, FakeClock(100.0, WALL))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
