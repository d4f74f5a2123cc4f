"""What went wrong with Redis: one table from the client's errors to the kinds that are counted, and the log of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from redis import exceptions

from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.pipeline.stats import FleetStats

log = logging.getLogger(__name__)

CALM = 3.0
"""Seconds without an error after which a trouble is over."""
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (exceptions.BusyLoadingError, "loading"),
    (exceptions.AuthenticationError, "auth"),
    (exceptions.AuthorizationError, "auth"),
    (exceptions.AuthenticationWrongNumberOfArgsError, "auth"),
    (exceptions.NoPermissionError, "permission"),
    (exceptions.OutOfMemoryError, "oom"),
    (exceptions.ReadOnlyError, "readonly"),
    (exceptions.MasterDownError, "master_down"),
    (exceptions.AskError, "moved"),
    (exceptions.ClusterError, "cluster"),
    (exceptions.RedisClusterException, "cluster"),
    (exceptions.MaxConnectionsError, "connections"),
    (exceptions.ConnectionError, "connection"),
    (OSError, "connection"),
    (exceptions.InvalidResponse, "protocol"),
)
"""The most particular class first."""
WORDS = (
    ("BUSY", "busy"),
    ("WRONGTYPE", "wrong_type"),
    ("OOM", "oom"),
    ("READONLY", "readonly"),
    ("NOPERM", "permission"),
    ("MASTERDOWN", "master_down"),
    ("MISCONF", "misconfigured"),
    ("NOREPLICAS", "no_replicas"),
    ("NOAUTH", "auth"),
    ("WRONGPASS", "auth"),
)
"""What an answer says that the client has no class for, or that a script passes on."""
REFUSED, GARBAGE = "refused", "garbage"
ALL_KINDS = tuple(dict.fromkeys([kind for _, kind in KINDS] + [kind for _, kind in WORDS] + [REFUSED, GARBAGE]))
CAUGHT = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
"""All that the client raises."""


def unavailable(error: Exception) -> StoreUnavailable:
    """What `error` means."""
    text = str(error) or type(error).__name__
    for kind, label in KINDS:
        if isinstance(error, kind):
            return StoreUnavailable(label, text)
    return StoreUnavailable(next((label for word, label in WORDS if word in text), REFUSED), text)


class Trouble:
    """Counts errors, and logs one line for each kind of a trouble and one for its end, however long it lasts."""

    def __init__(
        self, stats: FleetStats, monotonic: Callable[[], float], meanwhile: str = "circuits go on by themselves"
    ) -> None:
        self._stats = stats
        self._meanwhile = meanwhile
        self._monotonic = monotonic
        self._kinds: set[str] = set()
        self._latest = 0.0

    def failed(self, error: StoreUnavailable, doing: str) -> None:
        """Something was not done."""
        self._stats.errors[error.kind] += 1
        self._latest = self._monotonic()
        if error.kind not in self._kinds:
            self._kinds.add(error.kind)
            log.warning(
                "Redis fails (%s) to %s, %s: %s",
                error.kind, doing, self._meanwhile, error, extra={"redis_error": error.kind},
            )  # fmt: skip

    def answered(self) -> None:
        """Something was done."""
        if self._kinds and self._monotonic() - self._latest >= CALM:
            log.info("Redis answers again, after: %s", ", ".join(sorted(self._kinds)))
            self._kinds.clear()
