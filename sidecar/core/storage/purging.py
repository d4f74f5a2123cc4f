"""What was purged and invalidated lately, so that a store racing it loses and stored answers may go lazily.

Every purge and invalidation starts a new generation. An answer put, or a fetch begun, in an older one is checked
against what came since; the memory of it is bounded, and in doubt the answer is the safe one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEYS_KEPT = 4096
RULES_KEPT = 256


@dataclass(frozen=True, slots=True)
class PurgeRule:
    """What a purge covers: everything that meets all the conditions that are not None."""

    route: str | None = None
    url: bytes | None = None
    prefix: bytes | None = None
    tag: bytes | None = None

    def covers(self, route: str, url: bytes, tags: tuple[bytes, ...]) -> bool:
        """Whether an answer from there is meant."""
        return (
            (self.route is None or route == self.route)
            and (self.url is None or url == self.url)
            and (self.prefix is None or url.startswith(self.prefix))
            and (self.tag is None or self.tag in tags)
        )


class PurgeLog:
    """The purges and invalidations of the last generations.

    `lazy` is the newest generation whose rule was not carried out at once: what was put before it must be checked.
    """

    __slots__ = ("_floor", "_horizon", "_keys", "_rules", "_swept", "generation", "lazy")

    def __init__(self) -> None:
        self.generation = 0
        self.lazy = 0
        self._swept = 0
        self._floor = 0
        self._horizon = 0
        self._keys: dict[bytes, int] = {}
        self._rules: deque[tuple[int, PurgeRule]] = deque()

    def invalidate(self, key: bytes) -> None:
        """Fetches of `key` begun before now are not to be stored."""
        self.generation += 1
        self._keys.pop(key, None)
        self._keys[key] = self.generation
        if len(self._keys) > KEYS_KEPT:
            self._floor = max(self._floor, self._keys.pop(next(iter(self._keys))))

    def purge(self, rule: PurgeRule) -> None:
        """Fetches begun before now that `rule` covers are not to be stored."""
        self.generation += 1
        self._rules.append((self.generation, rule))
        if len(self._rules) > RULES_KEPT:
            forgotten, _ = self._rules.popleft()
            self._floor = max(self._floor, forgotten)
            if self._swept < forgotten <= self.lazy:
                self._horizon = forgotten

    def defer(self) -> None:
        """The newest purge is not carried out yet: stored answers that it covers are still there."""
        self.lazy = self.generation

    def carried_out(self, generation: int) -> None:
        """Nothing is left of what the purges up to `generation` cover."""
        self._swept = max(self._swept, generation)

    @property
    def pending(self) -> bool:
        """Whether stored answers may be left that a purge covers."""
        return self._swept < self.lazy

    @property
    def check_cost(self) -> int:
        """About how long one `covered` takes, in units of the shortest."""
        return 1 + len(self._rules) // 8

    def refuses(self, token: int, key: bytes, route: str, url: bytes, tags: tuple[bytes, ...]) -> bool:
        """Whether an answer whose fetch began in generation `token` must not be stored."""
        if token == self.generation:
            return False
        return token < self._floor or self._keys.get(key, 0) > token or self.covered(token, route, url, tags)

    def covered(self, since: int, route: str, url: bytes, tags: tuple[bytes, ...]) -> bool:
        """Whether a purge after generation `since` covers an answer from there."""
        if since < self._horizon:
            return True
        for generation, rule in reversed(self._rules):
            if generation <= since:
                return False
            if rule.covers(route, url, tags):
                return True
        return False
