"""What a circuit counts for as long as it lives, whatever happens to its windows: the source of its metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import WouldHave
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Role

if TYPE_CHECKING:
    from sidecar.core.circuit.explanation import Cause, Standing

_SUCCESS = Outcome.SUCCESS


class Counters:
    """Plain integers. `transitions` is keyed (to, cause); `rejected` counts refused requests, `successes` those that
    ended well, `would_*` what an observing circuit would have done.
    """

    __slots__ = (
        "_others", "_slow", "listener_errors", "rejected", "successes", "transitions", "would_avoid", "would_open",
        "would_refuse",
    )  # fmt: skip

    def __init__(self) -> None:
        self.transitions: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.rejected = 0
        self.listener_errors = 0
        self.would_open = 0
        self.would_refuse = 0
        self.would_avoid = 0
        self.successes = 0
        self._slow = 0
        self._others: dict[Outcome, int] = {}

    @property
    def calls(self) -> dict[str, int]:
        """Settled requests by outcome, each of them present; `slow` counts successes and failures a second time."""
        counts = {outcome.value: self._others.get(outcome, 0) for outcome in Outcome}
        counts["success"] = self.successes
        return {**counts, "slow": self._slow}

    @property
    def tally(self) -> tuple[int, int, int]:
        """Calls that a window would count, those that failed, and those that were slow."""
        others = self._others
        failed = others.get(Outcome.FAILURE, 0) + others.get(Outcome.THROTTLED, 0)
        return self.successes + failed, failed, self._slow

    @property
    def would_have(self) -> WouldHave:
        """What an observing circuit would have done."""
        return WouldHave(self.would_open, self.would_refuse, self.would_avoid)

    def settled(self, permit: Permit, outcome: Outcome, *, slow: bool) -> None:
        """Count a request that ended."""
        if outcome is _SUCCESS:
            self.successes += 1
            self._slow += slow
            return
        self._others[outcome] = self._others.get(outcome, 0) + 1
        if outcome is Outcome.FAILURE:
            self._slow += slow
            self.would_avoid += permit.role is Role.OBSERVED

    def moved(self, target: Standing, cause: Cause) -> None:
        """Count a transition."""
        self.transitions[target.value, cause.value] += 1
