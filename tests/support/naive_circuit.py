"""A circuit written for a reader, not for speed: every call in a list, everything computed anew each time.

It is the reference that `Circuit` is held against. It knows the settings but shares no code with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.core.config import BreakerSettings, CountWindow, TimeWindow


@dataclass(eq=False)
class Call:
    at: float
    failed: bool
    slow: bool
    held: bool = True


@dataclass(eq=False)
class Ticket:
    """What the model knows of one permitted request."""

    role: str
    generation: int
    started: float
    sent: float = float("inf")
    slow: bool | None = None
    counted: Call | None = None
    head: tuple[float, str, float | None] | None = None
    """When the head of an answer with a body came, what it says, and the Retry-After."""
    settled: bool = False


@dataclass
class NaiveCircuit:
    settings: BreakerSettings
    now: float
    state: str = "closed"
    generation: int = 1
    since: float = 0.0
    open_until: float = 0.0
    held_until: float = 0.0
    period: float = 0.0
    reopenings: int = 0
    successes: int = 0
    consecutive: int = 0
    last_safe: float = float("-inf")
    calls: list[Call] = field(default_factory=list)
    watched: list[Ticket] = field(default_factory=list)
    flowing: list[Ticket] = field(default_factory=list)
    probes: list[Ticket] = field(default_factory=list)
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    override: tuple[str, float] | None = None

    # The window

    def _epoch(self, at: float) -> int:
        assert isinstance(self.settings.window, TimeWindow)
        return round(at * 1e6) // round(self.settings.window.seconds * 1e5)

    def in_window(self) -> list[Call]:
        window = self.settings.window
        if isinstance(window, CountWindow):
            kept = self.calls[-window.requests :]
        else:
            kept = [call for call in self.calls if self._epoch(call.at) > self._epoch(self.now) - 10]
        return [call for call in kept if call.held]

    def window(self) -> tuple[int, int, int, int]:
        kept = self.in_window()
        return len(kept), sum(c.failed for c in kept), sum(c.slow for c in kept), self.consecutive

    def _add(self, *, failed: bool, slow: bool) -> Call:
        call = Call(self.now, failed, slow)
        self.calls.append(call)
        return call

    # Asking

    def forced(self) -> str | None:
        return self.override[0] if self.override is not None else None

    def expire(self) -> None:
        if self.override is not None and self.now >= self.override[1]:
            self.steps.append((self.override[0], self.state, "override_expired"))
            self.override = None

    def would_refuse(self, *, safe: bool) -> bool:
        if self.state == "closed":
            return False
        if self.state == "open" and self.now < self.open_until:
            return True
        if self.state == "half_open":
            in_time = [probe for probe in self.probes if self.now < probe.started + self.settings.probe_timeout]
            if self.now < self.held_until or len(in_time) >= self.settings.half_open_probes:
                return True
        return not safe and self.now < self.last_safe + self.settings.open_duration

    def ask(self, *, safe: bool) -> Ticket | None:
        """A ticket, or None for a refusal."""
        self.catch_up()
        self.expire()
        refused = self.would_refuse(safe=safe)
        if safe:
            self.last_safe = self.now
        if self.forced() == "forced_open":
            return None
        if refused:
            role = {"forced_closed": "waved", "observe": "observed"}.get(self.forced() or "")
            return None if role is None else Ticket(role, 0, self.now)
        if self.state == "closed":
            return Ticket("normal", self.generation, self.now)
        if self.state == "open":
            self._move("half_open", "open_duration_elapsed")
        self.probes.append(Ticket("probe", self.generation, self.now))
        return self.probes[-1]

    # Learning

    def catch_up(self) -> None:
        """What time alone brings about."""
        self.watch()
        limit = self.settings.probe_timeout
        for ticket in list(self.flowing):
            assert ticket.head is not None
            if self.now >= ticket.head[0] + limit and not ticket.settled:
                self._outlasts(ticket)
        for probe in list(self.probes):
            if probe not in self.probes or self.now < probe.started + limit:
                continue
            if probe.head is None:
                self.probes.remove(probe)
            else:
                self._outlasts(probe)

    def _outlasts(self, ticket: Ticket) -> None:
        assert ticket.head is not None
        _, outcome, retry_after = ticket.head
        self._end(ticket, outcome, retry_after)

    def sent(self, ticket: Ticket) -> None:
        ticket.sent = self.now
        if ticket in self.watched:
            self.watched.remove(ticket)
        hangs = ticket.role == "normal" and ticket.generation == self.generation and ticket.counted is None
        if self.settings.slow_rate is not None and hangs:
            self.watched.append(ticket)

    def watch(self) -> None:
        if self.settings.slow_rate is None:
            self.watched = []
        for ticket in list(self.watched):
            if ticket in self.watched and self.now - ticket.sent > self.settings.slow_after:
                self.watched.remove(ticket)
                ticket.counted = self._add(failed=False, slow=True)
                self._judge(None)

    def answered(self, ticket: Ticket, outcome: str, retry_after: float | None) -> None:
        ticket.slow = self.now - ticket.sent > self.settings.slow_after
        self.catch_up()
        if ticket in self.watched:
            self.watched.remove(ticket)
        ticket.head = self.now, outcome, retry_after
        self.flowing.append(ticket)

    def settle(self, ticket: Ticket, outcome: str, retry_after: float | None) -> None:
        if ticket in self.watched:
            self.watched.remove(ticket)
        self.catch_up()
        if not ticket.settled:
            self._end(ticket, outcome, retry_after)

    def _end(self, ticket: Ticket, outcome: str, retry_after: float | None) -> None:
        ticket.settled = True
        if ticket in self.flowing:
            self.flowing.remove(ticket)
        if ticket.generation != self.generation:
            return
        if ticket.role == "probe":
            self._settle_probe(ticket, outcome, retry_after)
        elif outcome in ("success", "failure", "throttled"):
            self._count(ticket, outcome)
            self._judge(None if outcome == "success" else retry_after)

    def _count(self, ticket: Ticket, outcome: str) -> None:
        slow = ticket.slow if ticket.slow is not None else self.now - ticket.sent > self.settings.slow_after
        failed = outcome != "success"
        if ticket.counted is None:
            self._add(failed=failed, slow=slow and outcome != "throttled")
        elif ticket.counted in self.in_window():
            ticket.counted.failed = failed
        else:
            self._add(failed=failed, slow=False)
        self.consecutive = {"success": 0, "failure": self.consecutive + 1}.get(outcome, self.consecutive)

    def _judge(self, retry_after: float | None) -> None:
        settings = self.settings
        requests, failures, slow, consecutive = self.window()
        enough = requests >= settings.minimum_requests
        if settings.failure_threshold is not None and consecutive >= settings.failure_threshold:
            self._open("failure_threshold", retry_after)
        elif enough and settings.failure_rate is not None and failures >= settings.failure_rate * requests > 0:
            self._open("failure_rate", retry_after)
        elif enough and settings.slow_rate is not None and slow >= settings.slow_rate * requests > 0:
            self._open("slow_rate", retry_after)

    def _settle_probe(self, ticket: Ticket, outcome: str, retry_after: float | None) -> None:
        if ticket not in self.probes:
            return
        self.probes.remove(ticket)
        if outcome == "success":
            self.successes += 1
            if self.successes >= self.settings.success_threshold:
                self._move("closed", "probes_succeeded")
        elif outcome == "failure":
            self._open("probe_failed", retry_after)
        elif outcome == "throttled" and retry_after is not None:
            self.held_until = max(self.held_until, self.now + min(retry_after, self.settings.backoff.max))

    # Moving

    def _open(self, cause: str, retry_after: float | None) -> None:
        settings = self.settings
        recovered = self.state == "closed" and self.now - self.since >= self.period
        self.reopenings = 0 if recovered else self.reopenings + 1
        grown = settings.open_duration * settings.backoff.multiplier ** min(self.reopenings, 60)
        self.period = min(max(min(grown, settings.backoff.max), retry_after or 0.0), settings.backoff.max)
        self.open_until = self.now + self.period
        self._move("open", cause)

    def _move(self, target: str, cause: str) -> None:
        self.steps.append((self.state, target, cause))
        self.state = target
        self.generation += 1
        self.since = self.now
        self.calls, self.watched, self.probes = [], [], []
        self.consecutive = self.successes = 0
        self.held_until = 0.0

    def reset(self) -> None:
        self.expire()
        self.reopenings, self.period = 0, 0.0
        self._move("closed", "reset")

    def force(self, mode: str, ttl: float) -> None:
        self.expire()
        self.steps.append((self.forced() or self.state, mode, "override_set"))
        self.override = (mode, self.now + ttl)

    def release(self) -> None:
        self.expire()
        if self.override is not None:
            self.steps.append((self.override[0], self.state, "override_removed"))
            self.override = None

    def reconfigure(self, settings: BreakerSettings) -> None:
        before, after = self.settings.window, settings.window
        if before != after:
            kept = self.in_window() if type(before) is type(after) else []
            width = before.seconds / 10 if isinstance(before, TimeWindow) else 0.0
            self.calls = [
                Call(self._epoch(call.at) * width if width else call.at, call.failed, call.slow) for call in kept
            ]
        self.settings = settings
        if isinstance(after, CountWindow):
            self.calls = self.calls[-after.requests :]
