"""Faults that are injected on purpose: which requests one hits, how, and how long it lasts.

A route has at most one, from its configuration or from the admin API; the last word wins. It ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.circuit.explanation import share, span
from sidecar.core.routing import holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import Fault
    from sidecar.core.http.heads import RequestHead

KINDS = ("abort", "delay", "reset", "slow_body")
"""The `kind` label of what was injected."""
CONFIGURED_BY = "configuration"
"""The actor of faults that stand in the file."""


class Strike(NamedTuple):
    """What happens to one request: it waits `delay` seconds, then gets the status `abort`, or is `reset`, or has its
    answer slowed down to `rate` octets per second; 0 stands for nothing of the kind.
    """

    delay: float
    abort: int
    reset: bool
    rate: int


def strike(fault: Fault, head: RequestHead, random: Callable[[], float]) -> Strike | None:
    """What `fault` does to a request; None when it does nothing to it. `random` gives numbers from 0 up to 1; each kind
    draws one.
    """
    match = fault.match
    if match.methods and head.method not in match.methods:
        return None
    for name, value in match.headers:
        if not holds(head.headers, name.encode(), None if value is None else value.encode()):
            return None
    abort, delay, reset, slow = fault.abort, fault.delay, fault.reset, fault.slow_body
    drawn = Strike(
        delay.duration if delay is not None and random() < delay.share else 0.0,
        abort.status if abort is not None and random() < abort.share else 0,
        reset is not None and random() < reset.share,
        slow.rate if slow is not None and random() < slow.share else 0,
    )
    return drawn if any(drawn) else None


def in_words(fault: Fault) -> str:
    """What it does, with its shares."""
    said = []
    if fault.abort is not None:
        said.append(f"abort {fault.abort.status} ({share(fault.abort.share)})")
    if fault.delay is not None:
        said.append(f"delay {span(fault.delay.duration)} ({share(fault.delay.share)})")
    if fault.reset is not None:
        said.append(f"reset ({share(fault.reset.share)})")
    if fault.slow_body is not None:
        said.append(f"slow_body {fault.slow_body.rate} bytes/s ({share(fault.slow_body.share)})")
    return ", ".join(said)


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault in force; times in monotonic seconds."""

    settings: Fault
    actor: str
    reason: str
    set_at: float

    @property
    def ends_at(self) -> float:
        """When it ends by itself."""
        return self.set_at + self.settings.ttl


@dataclass(frozen=True, slots=True)
class FaultChange:
    """A fault was `set`, `ended` by somebody, or has `expired`. `actor` and `reason` are of who did that."""

    route: str
    action: str
    fault: ActiveFault
    at: float
    actor: str
    reason: str

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        what = f"fault on route {self.route}: {in_words(self.fault.settings)}"
        why = f": {self.reason}" if self.reason else ""
        if self.action == "set":
            return f"{what}; set for {span(self.fault.settings.ttl)} by {self.actor or 'unknown'}{why}"
        return f"{what}; expired" if self.action == "expired" else f"{what}; ended by {self.actor or 'unknown'}{why}"


class RouteFault:
    """The fault of one route, if there is one. `told` hears of every change, `watcher` whether there is one now."""

    __slots__ = ("_configured", "_told", "current", "route", "watcher")

    def __init__(self, route: str, told: Callable[[FaultChange], None]) -> None:
        self.route = route
        self.current: ActiveFault | None = None
        self.watcher: Callable[[], None] = _nobody
        self._told = told
        self._configured: Fault | None = None

    def live(self, now: float) -> ActiveFault | None:
        """The fault in force; one whose time is over is ended here."""
        current = self.current
        if current is not None and now >= current.ends_at:
            self._change(None, "expired", current, now, current.actor, current.reason)
            return None
        return current

    def begin(self, fault: Fault, actor: str, reason: str, now: float) -> ActiveFault:
        """Let it hold for its `ttl`, in place of an earlier one."""
        self.live(now)
        active = ActiveFault(fault, actor, reason, now)
        self._change(active, "set", active, now, actor, reason)
        return active

    def end(self, actor: str, reason: str, now: float) -> bool:
        """Take it away; False when there is none."""
        current = self.live(now)
        if current is None:
            return False
        self._change(None, "ended", current, now, actor, reason)
        return True

    def configure(self, fault: Fault | None, now: float) -> None:
        """Take up what the file says, if that has changed: one that was ended, or replaced, stays so until it does."""
        before, self._configured = self._configured, fault
        if fault == before:
            return
        if fault is not None:
            self.begin(fault, CONFIGURED_BY, "", now)
        elif self.current is not None and self.current.settings is before:
            self.end(CONFIGURED_BY, "the configuration has it no more", now)

    def _change(
        self, to: ActiveFault | None, action: str, about: ActiveFault, now: float, actor: str, reason: str
    ) -> None:
        self.current = to
        self.watcher()
        self._told(FaultChange(self.route, action, about, now, actor, reason))


def _nobody() -> None:
    """Nobody watches."""
