"""Overrides and open circuits across a restart (breaker.md 23): one small JSON file, replaced as a whole.

Inside the process times are monotonic, in the file they are wall time; a period that ended while nobody ran has
ended.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

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
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.pipeline.ports import Clock

VERSION = 1
"""Says what the keys mean. A key that may be missing can be added within a version: an older sidecar passes it over, so
that going back to one loses no open circuit.
"""
log = logging.getLogger(__name__)


class Damaged(ValueError):
    """The content is not what `save` writes."""


def save(path: Path, circuits: Mapping[str, SavedCircuit], clock: Clock) -> None:
    """Write atomically: whoever reads sees the old state or the new one, also after a crash. Blocks; raises OSError."""
    shift = clock.wall() - clock.monotonic()
    content = {"version": VERSION, "circuits": {name: _circuit_out(saved, shift) for name, saved in circuits.items()}}
    draft = path.with_name(f"{path.name}.new")
    # Its samples and reasons are nobody else's business.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # a draft that an earlier version left behind
        json.dump(content, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_directory(path.parent)


def load(path: Path, clock: Clock) -> dict[str, SavedCircuit]:
    """What was saved; nothing when there is no file. A damaged file is set aside with a warning. Blocks."""
    try:
        text = path.read_text(encoding="utf-8")
        return _parse(text, clock.wall() - clock.monotonic())
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("the state file %s cannot be read, circuits start closed: %s", path, error)
        return {}
    except ValueError as error:
        _set_aside(path, error)
        return {}


def _set_aside(path: Path, error: ValueError) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as failure:
        log.warning("the state file %s is damaged (%s) and cannot be set aside: %s", path, error, failure)
    else:
        log.warning("the state file %s is damaged (%s), set aside as %s; circuits start closed", path, error, aside)


def _sync_directory(directory: Path) -> None:
    """Without this the rename itself may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _circuit_out(saved: SavedCircuit, shift: float) -> dict[str, Any]:
    content: dict[str, Any] = {"reopenings": saved.reopenings}
    if saved.open_until is not None:
        content["open_until"] = saved.open_until + shift
    if saved.trip is not None:
        content["trip"] = _trip_out(saved.trip, shift)
    if saved.override is not None:
        content["override"] = _override_out(saved.override, shift)
    if saved.last_trip is not None:
        content["last_trip"] = _trip_out(saved.last_trip, shift)
    if saved.last_probe is not None:
        content["last_probe"] = _probe_out(saved.last_probe, shift)
    return content


def _trip_out(trip: Trip, shift: float) -> dict[str, Any]:
    return {**asdict(trip), "cause": trip.cause.value, "at": trip.at + shift}


def _probe_out(probe: LastProbe, shift: float) -> dict[str, Any]:
    outcome = None if probe.outcome is None else probe.outcome.value
    return {**asdict(probe), "outcome": outcome, "at": probe.at + shift}


def _override_out(override: Override, shift: float) -> dict[str, Any]:
    until = override.expires_at
    return {
        **asdict(override),
        "mode": override.mode.value,
        "set_at": override.set_at + shift,
        "expires_at": None if until is None else until + shift,
    }


def _parse(text: str, shift: float) -> dict[str, SavedCircuit]:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        if content["version"] != VERSION:
            raise Damaged(f"version {content['version']!r} is not {VERSION}")
        return {name: _circuit_in(saved, shift) for name, saved in content["circuits"].items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _refuse_constant(constant: str) -> NoReturn:
    raise Damaged(f"{constant} is no time")


def _circuit_in(content: dict[str, Any], shift: float) -> SavedCircuit:
    until = content.get("open_until")
    trip = content.get("trip")
    override = content.get("override")
    last_trip = content.get("last_trip")
    last_probe = content.get("last_probe")
    return SavedCircuit(
        open_until=None if until is None else _number(until) - shift,
        reopenings=_count(content["reopenings"]),
        trip=None if trip is None else _trip_in(trip, shift),
        override=None if override is None else _override_in(override, shift),
        last_trip=None if last_trip is None else _trip_in(last_trip, shift),
        last_probe=None if last_probe is None else _probe_in(last_probe, shift),
    )


def _trip_in(content: dict[str, Any], shift: float) -> Trip:
    window = WindowView(**{name: _count(value) for name, value in content["window"].items()})
    samples = tuple(_sample_in(sample) for sample in content["samples"])
    ref = content["config_ref"]
    return Trip(
        Cause(content["cause"]),
        _number(content["at"]) - shift,
        _text(content["detail"]),
        window,
        samples,
        None if ref is None else _text(ref),
    )


def _probe_in(content: dict[str, Any], shift: float) -> LastProbe:
    outcome, sample = content["outcome"], content["sample"]
    return LastProbe(
        _number(content["at"]) - shift,
        None if outcome is None else Outcome(outcome),
        None if sample is None else _sample_in(sample),
    )


def _sample_in(content: dict[str, Any]) -> Sample:
    status, error = content["status"], content["error"]
    return Sample(
        at=_number(content["at"]),
        request_id=_text(content["request_id"]),
        method=_text(content["method"]),
        path=_text(content["path"]),
        status=None if status is None else _count(status),
        error=None if error is None else _text(error),
        duration=_number(content["duration"]),
    )


def _override_in(content: dict[str, Any], shift: float) -> Override:
    until = content["expires_at"]
    return Override(
        OverrideMode(content["mode"]),
        _text(content["reason"]),
        _text(content["actor"]),
        _number(content["set_at"]) - shift,
        None if until is None else _number(until) - shift,
        # Files of versions without a fleet have neither.
        content.get("fleet") is True,
        _count(content.get("stamp", 0)),
    )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Damaged(f"{value!r} is no number")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Damaged(f"{value!r} is no count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Damaged(f"{value!r} is no text")
    return value
