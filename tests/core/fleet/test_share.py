"""What one circuit owes its fleet, and what it takes up from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.explanation import State, Transition
from sidecar.core.circuit.gate import Gate, Lease, ProbeEnd
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.config import CountWindow, TimeWindow
from sidecar.core.fleet.messages import Named, Record, Verdict, Vote
from sidecar.core.fleet.share import VOTE_EVERY, VOTE_TTL, Share
from tests.support.circuits import OPEN_FOR, Bench

DETAIL = "3 consecutive failures, failure_threshold is 3"
WINDOW = 30.0
BUCKET = 3.0


class Shared(Bench):
    """A circuit whose transitions its share hears of."""

    def __init__(self, **changes: object) -> None:
        super().__init__(0.0, window=TimeWindow(WINDOW), **changes)
        self.urgent: list[bool] = []
        self.ended: list[ProbeEnd] = []
        self.circuit.gate = Gate(self.ended.append)
        self.share = Share(self.circuit, "a", self.circuit.gate, 0.0)

    def _note(self, event: Transition) -> None:
        super()._note(event)
        if hasattr(self, "share"):
            self.urgent.append(self.share.moved(event))

    def owed(self, now: float) -> Named | None:
        """What is owed, and told."""
        named = self.share.owed(now)
        if named is not None:
            self.share.told(named, now)
        return named

    def vote(self, now: float) -> Vote | None:
        named = self.owed(now)
        return None if named is None else named.vote


def record(round_: int, state: State, left: float = 0.0, by: str = "b") -> Record:
    return Record("catalog", round_, state, left, 1, by, "because")


def test_a_circuit_without_failures_owes_nothing() -> None:
    shared = Shared()
    for number in range(100):
        shared.call(Outcome.SUCCESS, number)
        assert shared.owed(number) is None


def test_its_first_failure_tells_what_the_window_holds_and_then_what_is_new() -> None:
    shared = Shared()
    for now in (1.0, 2.0, 3.0):
        shared.call(Outcome.SUCCESS, now)
        assert shared.owed(now) is None
    shared.call(Outcome.FAILURE, 4.0)
    assert shared.owed(4.0) == Named("catalog", BUCKET, (4, 1, 0))
    assert shared.owed(4.1) is None
    shared.call(Outcome.SUCCESS, 5.0)
    assert shared.owed(5.0) == Named("catalog", BUCKET, (1, 0, 0))


def test_what_could_not_be_told_is_owed_again() -> None:
    shared = Shared()
    shared.call(Outcome.FAILURE, 1.0)
    assert shared.share.owed(1.0) == Named("catalog", BUCKET, (1, 1, 0))
    shared.call(Outcome.THROTTLED, 2.0)
    assert shared.owed(2.0) == Named("catalog", BUCKET, (2, 2, 0))


def test_news_end_when_the_last_failure_leaves_the_window() -> None:
    shared = Shared()
    shared.call(Outcome.FAILURE, 0.0)
    shared.owed(0.0)
    shared.call(Outcome.SUCCESS, WINDOW - 1)
    assert shared.owed(WINDOW - 1) is not None
    shared.call(Outcome.SUCCESS, WINDOW)
    assert shared.owed(WINDOW) is None


def test_the_failures_that_opened_it_are_told_although_its_window_is_empty() -> None:
    shared = Shared()
    shared.trip(1.0)
    named = shared.owed(1.0)
    assert named is not None
    assert named.counts == (3, 3, 0)


def test_its_own_trip_is_a_vote_at_once_and_renewed_while_it_is_open() -> None:
    shared = Shared()
    shared.trip(1.0)
    assert shared.urgent == [True]
    assert shared.vote(1.0) == Vote(VOTE_TTL, 0, OPEN_FOR, 0, DETAIL)
    assert shared.owed(1.5) is None
    assert shared.vote(1.0 + VOTE_EVERY) == Vote(VOTE_TTL, 0, OPEN_FOR - VOTE_EVERY, 0, DETAIL)


def test_the_vote_outlasts_the_open_time_by_what_is_left_of_the_window() -> None:
    shared = Shared()
    probe = shared.half_open(1.0)
    shared.end(probe, Outcome.SUCCESS, 12.0)
    assert shared.state == "closed"
    assert shared.vote(13.0) == Vote(VOTE_TTL, 0, 0.0, 0, "")
    assert shared.vote(1.0 + WINDOW) == Vote(0.0, 0)
    assert shared.owed(2 * WINDOW) is None


def test_a_window_by_count_holds_no_failures_after_closing() -> None:
    shared = Shared()
    shared.circuit.reconfigure(replace(shared.circuit.settings, window=CountWindow(10)), {}, 0.0)
    probe = shared.half_open(1.0)
    assert shared.vote(1.0) is not None
    shared.end(probe, Outcome.SUCCESS, 12.0)
    assert shared.vote(13.0) == Vote(0.0, 0)


def test_a_vote_that_redis_may_have_forgotten_is_given_again_and_none_else() -> None:
    shared = Shared()
    shared.share.vote_again()
    assert shared.owed(0.0) is None
    shared.trip(1.0)
    shared.owed(1.0)
    shared.share.vote_again()
    assert shared.vote(1.1) is not None


@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN])
def test_it_opens_with_the_fleet_and_only_once(state: State) -> None:
    shared = Shared()
    assert shared.share.take(record(5, state, 4.0), 1.0)
    assert shared.steps == [("closed", "open", "fleet_opened")]
    assert shared.circuit.snapshot(1.0).next_probe_at == (5.0 if state is State.OPEN else 1.0)
    assert not shared.share.take(record(5, state, 4.0), 2.0)
    assert not shared.share.take(record(4, State.CLOSED), 2.0)
    assert shared.owed(2.0) is None, "adopting is no vote"


def test_it_closes_with_the_fleet_and_its_vote_is_over() -> None:
    shared = Shared()
    shared.trip(1.0)
    shared.owed(1.0)
    shared.share.take(record(5, State.OPEN, 9.0), 1.0)
    shared.share.take(record(6, State.CLOSED), 2.0)
    assert shared.steps[-1] == ("open", "closed", "fleet_closed")
    assert shared.vote(2.0) == Vote(0.0, 6)
    assert shared.owed(5.0) is None


def test_a_probe_of_its_own_goes_on_when_the_fleet_begins_to_probe_and_ends_when_another_failed() -> None:
    shared = Shared()
    shared.half_open(1.0)
    shared.share.take(record(5, State.HALF_OPEN), 12.0)
    assert shared.state == "half_open"
    shared.share.take(record(6, State.OPEN, 3.0), 13.0)
    assert shared.steps[-1] == ("half_open", "open", "fleet_opened")


def test_what_it_brought_about_itself_it_has_done() -> None:
    shared = Shared()
    shared.trip(1.0)
    shared.share.take(record(5, State.OPEN, 3.0, by="a"), 1.0)
    assert shared.circuit.snapshot(1.0).next_probe_at == 1.0 + OPEN_FOR
    assert shared.circuit.gate is not None
    assert shared.circuit.gate.shared


def test_an_operators_reset_takes_the_vote_back() -> None:
    shared = Shared()
    shared.trip(1.0)
    shared.owed(1.0)
    shared.circuit.reset(2.0)
    assert shared.urgent == [True, True]
    assert shared.vote(2.0) == Vote(0.0, 0)


@pytest.mark.parametrize(
    ("outcome", "retry_after", "told"),
    [
        (Outcome.SUCCESS, None, Verdict("catalog", "a|1", 8, "success", 0.0, 1, "", closes=True)),
        (Outcome.FAILURE, None, Verdict("catalog", "a|1", 8, "failure", 40.0, 2, "because")),
        (Outcome.THROTTLED, 7.0, Verdict("catalog", "a|1", 8, "hold", 7.0)),
        (Outcome.THROTTLED, 10_000.0, Verdict("catalog", "a|1", 8, "hold", 100.0)),
        (Outcome.THROTTLED, None, Verdict("catalog", "a|1", 8, "release")),
        (Outcome.CANCELLED, None, Verdict("catalog", "a|1", 8, "release")),
    ],
)
def test_a_verdict_says_what_became_of_the_circuit(outcome: Outcome, retry_after: float | None, told: Verdict) -> None:
    shared = Shared()
    gate = shared.circuit.gate
    assert gate is not None
    shared.share.take(record(7, State.OPEN, OPEN_FOR), 0.0)
    gate.lend(Lease("a|1", 8))
    shared.end(shared.admit(OPEN_FOR), outcome, OPEN_FOR, retry_after)
    (end,) = shared.ended
    verdict = shared.share.verdict(end, OPEN_FOR)
    assert verdict is not None
    assert verdict == told


def test_a_probe_that_the_circuit_decided_alone_is_told_for_the_round_that_was_known() -> None:
    shared = Shared()
    shared.share.take(record(7, State.OPEN, OPEN_FOR), 0.0)
    verdict = shared.share.verdict(ProbeEnd(None, Outcome.SUCCESS), 1.0)
    assert verdict is not None
    assert (verdict.id, verdict.round) == ("", 7)
    assert shared.share.verdict(ProbeEnd(None, Outcome.CANCELLED), 1.0) is None


def test_a_circuit_that_stands_alone_tells_nothing_of_its_probes() -> None:
    shared = Shared()
    shared.end(shared.half_open(1.0), Outcome.SUCCESS, 12.0)
    assert shared.share.verdict(shared.ended[0], 12.0) is None


def test_one_that_shares_only_the_view_counts_and_never_votes_or_follows() -> None:
    bench = Bench(0.0, window=TimeWindow(WINDOW))
    share = Share(bench.circuit, "a", None, 0.0)
    bench.trip(1.0)
    assert [share.moved(event) for event in bench.events] == [False]
    assert share.owed(1.0) == Named("catalog", BUCKET, (3, 3, 0))
    bench.circuit.reset(2.0)
    assert share.take(record(5, State.OPEN, 4.0), 2.0)
    assert bench.state == "closed"
