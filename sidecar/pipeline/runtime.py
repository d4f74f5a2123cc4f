"""What everything that waits is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.pipeline.deadlines import DeadlineWheel
    from sidecar.pipeline.ports import Clock, Spawn


@dataclass(frozen=True, slots=True)
class Runtime:
    """Time, the wheel that watches deadlines on it, and the one way to start a task."""

    clock: Clock
    wheel: DeadlineWheel
    spawn: Spawn
