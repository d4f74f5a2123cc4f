"""How a request that a circuit admitted ended (breaker.md §1), decided by rule."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.config import BreakerSettings

TOO_MANY_REQUESTS = 429


class Outcome(Enum):
    """What an admitted request tells its circuit. `slow` is not among them: it adds to a success or a failure."""

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLED = "throttled"
    IGNORED = "ignored"
    CANCELLED = "cancelled"
    NOT_SENT = "not_sent"


def of_status(status: int, settings: BreakerSettings) -> Outcome:
    """The outcome of an answer whose body arrived whole. The operator's lists win over the meaning of 429."""
    if status in settings.ignore:
        return Outcome.IGNORED
    if status in settings.failures:
        return Outcome.FAILURE
    return Outcome.THROTTLED if status == TOO_MANY_REQUESTS else Outcome.SUCCESS
