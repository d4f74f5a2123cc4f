from __future__ import annotations

from sidecar.core.circuit.explanation import Cause, State, Transition, WindowView
from sidecar.core.circuit.hooks import Hooks

OPENED = Transition("c", State.CLOSED, State.OPEN, Cause.FAILURE_RATE, 0.0, "", WindowView())


def test_the_listener_hears_of_a_transition() -> None:
    heard: list[Transition] = []
    failures: list[Exception] = []
    assert Hooks(lambda: 0.5, heard.append, failures.append).tell(OPENED)
    assert (heard, failures) == ([OPENED], [])


def test_what_a_listener_raises_is_told_and_goes_no_further() -> None:
    failures: list[Exception] = []

    def listener(_: Transition) -> None:
        raise ValueError("full disk")

    assert not Hooks(lambda: 0.5, listener, failures.append).tell(OPENED)
    assert [str(failure) for failure in failures] == ["full disk"]
