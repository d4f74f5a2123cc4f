"""How long an upstream keeps idle connections, learned from what it says and from what it does.

Belongs here: the time after which an idle connection is no longer trusted. Connections themselves are the pool's.
"""

from __future__ import annotations

import re
from math import inf

ALIKE = 0.2
"""Share by which two ages may differ and still be the same time limit."""
SHORTEST = 0.5
SAFETY = 0.9
"""Share of an upstream's own keep-alive time after which its idle connections are no longer trusted."""
_TIMEOUT = re.compile(rb"(?i)\btimeout=([0-9]{1,9})\b")


class KeepAlive:
    """`seconds`: how long a connection may have been idle and still be used. It only ever becomes less."""

    __slots__ = ("_last_close", "seconds")

    def __init__(self, configured: float) -> None:
        self.seconds = configured
        self._last_close = (inf, -inf)
        """How long the connection had been idle that the upstream closed last, and when that was."""

    def announced(self, value: bytes) -> None:
        """The upstream sent a Keep-Alive field with this value (RFC 2068 §19.7.1.1)."""
        timeout = _TIMEOUT.search(value)
        if timeout is not None:
            self._learn(float(timeout[1]))

    def closed_by_upstream(self, now: float, idle_since: float) -> None:
        """An idle connection was. Twice at the same age is a habit; once may be a restart."""
        age = now - idle_since
        before, at = self._last_close
        self._last_close = (age, now)
        if now - at >= age and abs(age - before) < ALIKE * age:
            self._learn(min(age, before))

    def _learn(self, idle_for: float) -> None:
        """The upstream closes connections that are idle for so long: from now on let go before it does."""
        self.seconds = min(self.seconds, max(idle_for * SAFETY, SHORTEST))
