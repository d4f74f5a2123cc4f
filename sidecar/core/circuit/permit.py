"""What a circuit answers to a request: a permit, or a refusal that explains itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sidecar.core.circuit.explanation import Sample
from sidecar.core.circuit.outcome import Outcome

if TYPE_CHECKING:
    from sidecar.core.circuit.explanation import Standing
    from sidecar.core.circuit.window import RollingWindow

Describe: TypeAlias = Callable[[], Sample]
"""Makes the sample of one request; called only when the circuit wants one."""


class Role(Enum):
    """What the outcome of a permitted request is good for.

    WAVED and OBSERVED requests were admitted against the automatic machine (forced closed or off; only observing):
    their outcome decides nothing.
    """

    NORMAL = "normal"
    PROBE = "probe"
    WAVED = "waved"
    OBSERVED = "observed"


class Verdict(NamedTuple):
    """What a request ends as, by the head of its answer, unless its body is cut short.

    `describe` makes its sample, None where none is wanted; `retry_after` is the upstream's wish in seconds.
    """

    outcome: Outcome
    describe: Describe | None = None
    retry_after: float | None = None


HEALTHY = Verdict(Outcome.SUCCESS)


class Permit:
    """Leave to send one request, settled once.

    `generation` is the circuit's when it was given, 0 when its outcome decides nothing; `started` monotonic seconds.
    `sent_at` is from when on the upstream's time counts: when the request was sent whole, `inf` while it is not.
    `slow` is known once the response head has arrived, `verdict` when a body follows it. `outlasted`: that body flowed
    on for longer than it was waited for, so the permit was settled before its end. `mark` is set when the window
    already counts the request as slow while it is in flight.
    """

    __slots__ = ("generation", "mark", "outlasted", "role", "sent_at", "settled", "slow", "started", "verdict")

    def __init__(self, role: Role, generation: int, started: float) -> None:
        self.role = role
        self.generation = generation
        self.started = started
        self.sent_at = inf
        self.settled = self.outlasted = False
        self.slow: bool | None = None
        self.verdict: Verdict | None = None
        self.mark: tuple[RollingWindow, int] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass: the standing that refuses, the reason in words, and after how many whole seconds
    (rounded up, at least 1) asking again makes sense, which is what Retry-After tells the client. `detail` says both.
    """

    standing: Standing
    why: str
    retry_after: int = 1
    detail: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", f"{self.why}; ask again in {self.retry_after} s")
