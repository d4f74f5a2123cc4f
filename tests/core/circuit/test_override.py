from __future__ import annotations

import pytest

from sidecar.core.circuit.explanation import Cause, Override, OverrideMode, Standing, State
from sidecar.core.circuit.override import OverrideLayer, ended_in_words, refusal, set_in_words
from sidecar.core.config import BreakerMode

FORCED_OPEN, FORCED_CLOSED, OBSERVE = OverrideMode.FORCED_OPEN, OverrideMode.FORCED_CLOSED, OverrideMode.OBSERVE


def override(mode: OverrideMode = FORCED_OPEN, *, reason: str = "deploy", expires_at: float | None = 60.0) -> Override:
    return Override(mode, reason, "ann" if reason else "", 0.0, expires_at)


def layer(current: Override | None) -> OverrideLayer:
    made = OverrideLayer(lambda *_: None)
    made.current = current
    return made


@pytest.mark.parametrize(
    ("current", "now", "live"),
    [(None, 0.0, False), (override(), 59.9, True), (override(), 60.0, False), (override(expires_at=None), 1e9, True)],
    ids=["none", "within its time", "over", "never ends"],
)
def test_an_override_ends_by_itself(current: Override | None, now: float, *, live: bool) -> None:
    over = layer(current)
    assert over.live(now) == (current if live else None)
    assert over.current is current


@pytest.mark.parametrize(
    ("mode", "state", "forced", "standing"),
    [
        (BreakerMode.ENFORCE, State.OPEN, None, State.OPEN),
        (BreakerMode.ENFORCE, State.HALF_OPEN, None, State.HALF_OPEN),
        (BreakerMode.OBSERVE, State.OPEN, None, State.CLOSED),
        (BreakerMode.OFF, State.OPEN, None, State.CLOSED),
        (BreakerMode.ENFORCE, State.CLOSED, FORCED_OPEN, FORCED_OPEN),
        (BreakerMode.OFF, State.CLOSED, FORCED_OPEN, FORCED_OPEN),
        (BreakerMode.ENFORCE, State.OPEN, FORCED_CLOSED, FORCED_CLOSED),
        (BreakerMode.ENFORCE, State.OPEN, OBSERVE, State.CLOSED),
    ],
)
def test_what_requests_meet(mode: BreakerMode, state: State, forced: OverrideMode | None, standing: Standing) -> None:
    over = layer(override(forced) if forced else None)
    assert over.effective(0.0, mode, state) is standing
    assert over.effective(60.0, mode, state) is layer(None).effective(60.0, mode, state)


@pytest.mark.parametrize(
    ("mode", "forced", "observes"),
    [
        (BreakerMode.ENFORCE, None, False),
        (BreakerMode.OBSERVE, None, True),
        (BreakerMode.OFF, None, False),
        (BreakerMode.ENFORCE, OBSERVE, True),
        (BreakerMode.OBSERVE, FORCED_OPEN, False),
    ],
)
def test_the_override_decides_before_the_mode_whether_a_circuit_only_observes(
    mode: BreakerMode, forced: OverrideMode | None, *, observes: bool
) -> None:
    assert layer(override(forced) if forced else None).observes(0.0, mode) is observes


def test_events_go_from_and_to_the_override_while_there_is_one() -> None:
    over = layer(override())
    assert over.standing(State.CLOSED) is FORCED_OPEN
    over.end(Cause.OVERRIDE_REMOVED, 1.0)
    assert over.standing(State.CLOSED) is State.CLOSED


def test_what_begins_and_what_ends_is_told_once_when_it_has() -> None:
    told: list[tuple[object, ...]] = []
    over = OverrideLayer(lambda *words: told.append((*words, over.current)))
    over.begin(first := override(), Cause.OVERRIDE_SET, State.OPEN, 1.0)
    over.begin(second := override(OBSERVE), Cause.RESTORED, State.OPEN, 2.0)
    over.expire(59.9)
    for now in (60.0, 61.0):
        over.expire(now)
        over.end(Cause.OVERRIDE_REMOVED, now)
    assert told == [
        (State.OPEN, Cause.OVERRIDE_SET, set_in_words(first), 1.0, first),
        (FORCED_OPEN, Cause.RESTORED, set_in_words(second), 2.0, second),
        (OBSERVE, Cause.OVERRIDE_EXPIRED, ended_in_words(second, Cause.OVERRIDE_EXPIRED), 60.0, None),
    ]


@pytest.mark.parametrize(
    ("expires_at", "now", "after"),
    [(60.0, 12.5, 48), (None, 12.5, 15), (12.75, 12.5, 1)],
    ids=["until its end", "for a while", "a moment"],
)
def test_a_forced_open_circuit_says_when_to_ask_again(expires_at: float | None, now: float, after: int) -> None:
    refused = refusal(override(expires_at=expires_at), now, 15.0)
    assert (refused.standing, refused.retry_after) == (FORCED_OPEN, after)
    assert refused.why.startswith("the circuit is forced_open")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (override(), "forced_open for 60s by ann: deploy"),
        (override(expires_at=None), "forced_open until removed by ann: deploy"),
        (override(OBSERVE, reason=""), "observe for 60s by unknown"),
    ],
    ids=["with an end", "without an end", "nobody said why"],
)
def test_who_forced_what_for_how_long_and_why(given: Override, sentence: str) -> None:
    assert set_in_words(given) == sentence


def test_what_ended_and_how() -> None:
    assert ended_in_words(override(), Cause.OVERRIDE_EXPIRED) == "the forced_open override by ann expired: deploy"
    assert (
        ended_in_words(override(reason=""), Cause.OVERRIDE_REMOVED) == "the forced_open override by unknown was removed"
    )
