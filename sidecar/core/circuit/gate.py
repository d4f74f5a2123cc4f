"""What a fleet says of one circuit's probes: while the circuit is the fleet's, a probe needs a lease.

A lease is got before the circuit is asked (`Circuit.wants_lease`), lent to the gate, and taken by the next probe that
`Circuit.ask` admits, whoever asks; who lent it takes it back afterwards if nobody did. When the probe ends, whichever
way, `tell` hears of it once, with its lease. Without a lease nobody probes. Where Redis does not answer, the
circuit decides alone, within its own `half_open_probes`: it is lent a lease that Redis may never have heard of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.permit import Permit

AT_ONCE = float("-inf")
ELSEWHERE = Refusal(State.HALF_OPEN, "the circuit is half-open and the fleet's probes are under way")
LOCAL_ONLY = "local_only: this sidecar opened its own circuit, the fleet's is closed"


@dataclass(eq=False, slots=True)
class Lease:
    """Leave of the fleet for one probe. `round` numbers the state of the fleet's circuit that it is for; where Redis
    answers when the probe is under way already, it is set then.
    """

    id: str
    round: int


class ProbeEnd(NamedTuple):
    """How a probe ended, with its lease if it had one. `outcome`: CANCELLED also where it decides nothing any more."""

    lease: Lease | None
    outcome: Outcome
    retry_after: float | None = None


Tell: TypeAlias = "Callable[[ProbeEnd], None]"


class Gate:
    """One circuit's. `shared`: the fleet holds it open, or half-open. `asking`: leases that are being asked for.

    `hold_until`: no lease is to be had before that monotonic time, as far as is known.
    """

    __slots__ = ("_explained", "_leases", "_lent", "_tell", "asking", "hold_until", "shared")

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lent: list[Lease] = []
        self._leases: dict[Permit, Lease] = {}
        self._explained: tuple[Refusal, Refusal] = (ELSEWHERE, ELSEWHERE)
        self.shared = False
        self.asking = 0
        self.hold_until = AT_ONCE

    @property
    def shut(self) -> bool:
        """Whether a probe may not start."""
        return self.shared and not self._lent

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Those of the probes under way."""
        return tuple(self._leases.values())

    def may_ask(self, now: float, free: int) -> bool:
        """Whether a lease is needed and may be asked for, with `free` probes to be had of the circuit itself."""
        return self.shared and self.asking < free and now >= self.hold_until

    def lend(self, lease: Lease) -> None:
        """A probe may have this lease."""
        self._lent.append(lease)

    def take_back(self, lease: Lease) -> bool:
        """Lend it no longer; whether no probe took it."""
        unused = lease in self._lent
        if unused:
            self._lent.remove(lease)
        return unused

    def refusal(self) -> Refusal:
        """What a request is refused with that would be a probe."""
        return ELSEWHERE

    def on_hold(self, now: float) -> Refusal | None:
        """What every request is refused with at `now` that would be a probe, if that is certain; changes nothing."""
        return ELSEWHERE if self.shut and now < self.hold_until else None

    def explained(self, refusal: Refusal) -> Refusal:
        """The circuit's own refusal, which says so when this sidecar stands alone with it."""
        if self.shared:
            return refusal
        if self._explained[0] is not refusal:
            words = f"{refusal.why}; {LOCAL_ONLY}"
            self._explained = refusal, Refusal(refusal.standing, words, refusal.retry_after)
        return self._explained[1]

    def began(self, permit: Permit) -> None:
        """A probe starts, with what was lent first."""
        if self._lent:
            self._leases[permit] = self._lent.pop(0)

    def stepped_aside(self, permit: Permit) -> None:
        """A probe goes on without keeping others from probing: its lease is free, and its verdict still counts."""
        if (lease := self._leases.get(permit)) is not None:
            self._tell(ProbeEnd(lease, Outcome.CANCELLED))

    def ended(self, permit: Permit, outcome: Outcome, retry_after: float | None = None) -> None:
        """A probe ended."""
        self._tell(ProbeEnd(self._leases.pop(permit, None), outcome, retry_after))
