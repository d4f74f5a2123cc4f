"""How long an exchange may stand still, and how long it may take in all.

Belongs here: the one deadline that stands for both, and which error its passing means. When a wait begins is said by
`connection` and `sending`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sidecar.pipeline.deadlines import Deadlined
from sidecar.pipeline.errors import IdleTimeout, TotalTimeout

if TYPE_CHECKING:
    from sidecar.adapters.upstream.owner import Owner
    from sidecar.pipeline.errors import UpstreamTimeout


class ExchangeTimeouts(Deadlined):
    """The timeouts of the exchange under way. Times are monotonic seconds.

    A base of the connection and no object of its own: the wheel watches the connection, and each request sets these.
    """

    __slots__ = ("_idle_timeout", "_owner", "_timeout", "_timeout_after", "_total", "_total_deadline")

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        self._idle_timeout = self._total = self._total_deadline = inf
        self._timeout: type[UpstreamTimeout] = IdleTimeout
        self._timeout_after = inf

    def set_timeout(self, seconds: float, timeout: type[UpstreamTimeout]) -> float:
        """From now on, which is returned, the exchange may stand still for `seconds`, within its total."""
        now = self._owner.clock.monotonic()
        deadline = now + seconds
        if deadline > self._total_deadline:
            deadline, timeout, seconds = self._total_deadline, TotalTimeout, self._total
        self._timeout = timeout
        self._timeout_after = seconds
        if deadline < self.looked_at:
            self._owner.wheel.set(self, deadline)
        else:
            self.deadline = deadline
        return now
