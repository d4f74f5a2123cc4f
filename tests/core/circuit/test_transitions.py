"""The table of transitions: it is whole, the machine moves by it, metrics and README are derived from it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sidecar.core.circuit.explanation import Cause, OverrideMode, Standing, State
from sidecar.core.circuit.machine import Machine, Move
from sidecar.core.circuit.transitions import AUTOMATIC, OVERRIDES, Row, next_state, possible_transitions
from sidecar.core.config import BreakerMode, BreakerSettings

README = Path(__file__).resolve().parents[3] / "README.md"
PAIRS = list(itertools.product(State, Cause))
IN_THE_TABLE = {
    ("closed", "failure_threshold"): "open",
    ("closed", "failure_rate"): "open",
    ("closed", "slow_rate"): "open",
    ("closed", "restored"): "open",
    ("open", "open_duration_elapsed"): "half_open",
    ("half_open", "probes_succeeded"): "closed",
    ("half_open", "probe_failed"): "open",
    ("open", "switched_off"): "closed",
    ("half_open", "switched_off"): "closed",
    ("closed", "fleet_opened"): "open",
    ("half_open", "fleet_opened"): "open",
    ("open", "fleet_closed"): "closed",
    ("half_open", "fleet_closed"): "closed",
    **{(state, "reset"): "closed" for state in ("closed", "open", "half_open")},
}


def machine_in(state: State) -> tuple[Machine, list[Move]]:
    moves: list[Move] = []
    machine = Machine(BreakerSettings(), {}, 0.0, random=lambda: 0.5, moved=lambda move, _: moves.append(move))
    machine.state = state
    return machine, moves


@pytest.mark.parametrize(("state", "cause"), PAIRS, ids=lambda value: value.value)
def test_the_machine_moves_as_the_table_says_and_refuses_the_rest_as_a_mistake(state: State, cause: Cause) -> None:
    target = IN_THE_TABLE.get((state.value, cause.value))
    machine, moves = machine_in(state)
    if target is None:
        with pytest.raises(RuntimeError, match=f"no transition from {state.value} by {cause.value}"):
            machine._move(cause, "", 1.0)
        assert (machine.state, machine.generation, moves) == (state, 1, [])
    else:
        machine._move(cause, "", 1.0)
        assert next_state(state, cause) is machine.state
        assert (machine.state.value, machine.generation) == (target, 2)
        assert [(move.source, move.target, move.cause) for move in moves] == [(state, machine.state, cause)]


def test_every_state_and_cause_leads_to_one_state() -> None:
    found = [(source, row.cause) for row in AUTOMATIC for source in row.sources]
    assert len(found) == len(set(found)) == len(IN_THE_TABLE)
    assert [len(row.targets) for row in AUTOMATIC] == [1] * len(AUTOMATIC)


def test_every_cause_has_a_row() -> None:
    assert {row.cause for row in (*AUTOMATIC, *OVERRIDES)} == set(Cause)


def test_every_state_is_left_and_reached() -> None:
    for state in State:
        assert any(state in row.sources and state not in row.targets for row in AUTOMATIC)
        assert any(state in row.targets and state not in row.sources for row in AUTOMATIC)


def test_the_table_in_the_readme_is_this_one() -> None:
    assert "\n".join(printed()) in README.read_text()


def printed() -> list[str]:
    """The table as Markdown."""
    head = ["| state | what happens | if | next state | cause |", "|---|---|---|---|---|"]
    return head + [_line(row) for row in (*AUTOMATIC, *OVERRIDES)]


def _line(row: Row) -> str:
    source, target = _words(row.sources, "any state"), _words(row.targets, "the state underneath")
    return f"| {source} | {row.event} | {row.guard} | {target} | `{row.cause.value}` |"


def _words(standings: tuple[Standing, ...], states: str) -> str:
    """Names of the states; `states` for all three, since an override's own are told as one."""
    if set(standings) == {*State, *OverrideMode}:
        return "any"
    if standings == tuple(OverrideMode):
        return "overridden"
    if standings == tuple(State):
        return states
    return " or ".join(standing.value.replace("_", "-") for standing in standings)


# What settings allow

FORCED = {
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
EVERYTHING = FORCED | ENDS_ELSEWHERE | PROBING

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
    "off": (BreakerSettings(mode=BreakerMode.OFF), False, FORCED),
    "off, with a state file": (BreakerSettings(mode=BreakerMode.OFF), True, FORCED | RESTORED),
}


@pytest.mark.parametrize(("settings", "restorable", "expected"), CASES.values(), ids=CASES)
def test_exactly_what_the_settings_allow(
    *, settings: BreakerSettings, restorable: bool, expected: set[tuple[str, str]]
) -> None:
    found = [(target.value, cause.value) for target, cause in possible_transitions(settings, restorable=restorable)]

    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(("mode", "follows"), [("enforce", True), ("observe", False), ("off", False)])
def test_only_a_circuit_that_refuses_follows_a_fleet(mode: str, follows: bool) -> None:  # noqa: FBT001 - a column
    settings = BreakerSettings(mode=BreakerMode(mode))
    shared = set(possible_transitions(settings, restorable=False, shared=True))
    more = {(State.OPEN, Cause.FLEET_OPENED), (State.CLOSED, Cause.FLEET_CLOSED)}
    assert shared - set(possible_transitions(settings, restorable=False)) == (more if follows else set())
