"""The layer above the automatic machine: what an operator forces, until when, and in which words (breaker.md §4)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.explanation import Cause, Override, OverrideMode, State, span
from sidecar.core.circuit.permit import Refusal
from sidecar.core.config import BreakerMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.explanation import Standing

    Changed: TypeAlias = Callable[[Standing, Cause, str, float], None]


class OverrideLayer:
    """At most one override; `live` is the one in force at a moment, `current` also one whose end nobody noticed yet.

    `changed` hears of each that begins or ends, when it has: what held before, the cause, the words, and the time.
    """

    __slots__ = ("_changed", "current")

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self.current: Override | None = None

    def begin(self, override: Override, cause: Cause, state: State, now: float) -> None:
        """Let `override` hold, in place of an earlier one; `state` is the machine's."""
        before = self.standing(state)
        self.current = override
        self._changed(before, cause, set_in_words(override), now)

    def end(self, cause: Cause, now: float) -> None:
        """Take it away, if there is one: by an operator, or because its time is over."""
        override, self.current = self.current, None
        if override is not None:
            self._changed(override.mode, cause, ended_in_words(override, cause), now)

    def expire(self, now: float) -> None:
        """Take it away if its time is over."""
        if self.current is not None and self.current.ended(now):
            self.end(Cause.OVERRIDE_EXPIRED, now)

    def live(self, now: float) -> Override | None:
        """The override in force; changes nothing."""
        override = self.current
        return None if override is None or override.ended(now) else override

    def observes(self, now: float, mode: BreakerMode) -> bool:
        """Whether requests are admitted only to see what would have happened."""
        override = self.live(now)
        return mode is BreakerMode.OBSERVE if override is None else override.mode is OverrideMode.OBSERVE

    def standing(self, state: State) -> Standing:
        """The word for what an event goes from or to."""
        return state if self.current is None else self.current.mode

    def effective(self, now: float, mode: BreakerMode, state: State) -> Standing:
        """What requests meet: one that observes or is off admits all, so it is as good as closed."""
        override = self.live(now)
        if override is not None and override.mode is not OverrideMode.OBSERVE:
            return override.mode
        return state if override is None and mode is BreakerMode.ENFORCE else State.CLOSED


def refusal(override: Override, now: float, patience: float) -> Refusal:
    """What a forced-open circuit answers. One without an end has clients ask again after `patience` seconds."""
    left = patience if override.expires_at is None else override.expires_at - now
    return Refusal(override.mode, f"the circuit is {set_in_words(override)}", max(1, ceil(left)))


def set_in_words(override: Override) -> str:
    """Who forced what, for how long, and why."""
    until = "until removed" if override.expires_at is None else f"for {span(override.expires_at - override.set_at)}"
    return f"{override.mode.value} {until} by {override.actor or 'unknown'}{because(override.reason)}"


def ended_in_words(override: Override, cause: Cause) -> str:
    """What ended, how, and what it had been for."""
    how = "expired" if cause is Cause.OVERRIDE_EXPIRED else "was removed"
    return f"the {override.mode.value} override by {override.actor or 'unknown'} {how}{because(override.reason)}"


def because(reason: str) -> str:
    """What to put after the words that tell of an operator's deed."""
    return f": {reason}" if reason else ""
