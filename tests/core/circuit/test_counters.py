from __future__ import annotations

import pytest

from sidecar.core.circuit.counters import Counters
from sidecar.core.circuit.explanation import Cause, OverrideMode, State, WouldHave
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Role


def permit(role: Role = Role.NORMAL) -> Permit:
    return Permit(role, 1, 0.0)


def test_every_outcome_is_present_from_the_start() -> None:
    assert Counters().calls == dict.fromkeys([*(outcome.value for outcome in Outcome), "slow"], 0)


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.value)
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_a_call_counts_once_and_a_slow_verdict_a_second_time(outcome: Outcome, *, slow: bool) -> None:
    counters = Counters()
    counters.settled(permit(), outcome, slow=slow)
    counters.settled(permit(), outcome, slow=False)
    counted_slow = slow and outcome in {Outcome.SUCCESS, Outcome.FAILURE}
    expected = {outcome.value: 2, "slow": int(counted_slow)}
    assert {name: count for name, count in counters.calls.items() if count} == {
        name: count for name, count in expected.items() if count
    }


@pytest.mark.parametrize(
    ("role", "outcome", "avoided"),
    [
        (Role.OBSERVED, Outcome.FAILURE, 1),
        (Role.OBSERVED, Outcome.SUCCESS, 0),
        (Role.OBSERVED, Outcome.THROTTLED, 0),
        (Role.NORMAL, Outcome.FAILURE, 0),
        (Role.WAVED, Outcome.FAILURE, 0),
    ],
)
def test_only_a_failure_that_an_observing_circuit_let_through_could_have_been_avoided(
    role: Role, outcome: Outcome, avoided: int
) -> None:
    counters = Counters()
    counters.would_open, counters.would_refuse = 2, 3
    counters.settled(permit(role), outcome, slow=False)
    assert counters.would_have == WouldHave(2, 3, avoided)


def test_transitions_count_by_where_to_and_why() -> None:
    counters = Counters()
    for target, cause in (
        (State.OPEN, Cause.FAILURE_RATE),
        (State.OPEN, Cause.FAILURE_RATE),
        (OverrideMode.FORCED_OPEN, Cause.OVERRIDE_SET),
    ):
        counters.moved(target, cause)
    assert counters.transitions == {("open", "failure_rate"): 2, ("forced_open", "override_set"): 1}
