"""The purges of a whole fleet, each with its position: a number that grows from one to the next, whoever purges.

An answer in the fleet's store says up to which position it is known to be covered by no purge; what came later is
looked up here. Everybody's memory of purges is bounded. What is forgotten leaves a purge of everything in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sidecar.core.storage.plain_codec import decode, encode
from sidecar.core.storage.purging import PurgeRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.cache.stored import Plain

PURGES_KEPT = 1000
EVERYTHING = PurgeRule()
ALL, FLEETS_STORE = b"", b"store"
"""In the place of a rule: everything everywhere; everything in the fleet's store, and nothing in anybody's memory."""
WHOLE = frozenset({ALL, FLEETS_STORE})


class FleetPurges:
    """The purges of a fleet, as far as they are known here; `newest` is the position of the latest, 0 without any."""

    __slots__ = ("_rules", "_whole", "newest")

    def __init__(self) -> None:
        self.newest = 0
        self._rules: dict[bytes, int] = {}
        self._whole: dict[bytes, int] = {}

    def learn(self, position: int, rule: bytes) -> bool:
        """There was a purge; whether that is news."""
        known = self._whole if rule in WHOLE else self._rules
        if known.get(rule, 0) >= position:
            return False
        known[rule] = position
        self.newest = max(self.newest, position)
        if len(self._rules) > PURGES_KEPT:
            oldest = min(self._rules, key=self._rules.__getitem__)
            forgotten = self._rules.pop(oldest)
            self._whole[ALL] = max(forgotten, self._whole.get(ALL, 0))
        return True

    def covered(self, since: int, route: str, url: bytes, tags: tuple[bytes, ...]) -> bool:
        """Whether a purge after the position `since` covers an answer from there."""
        if since >= self.newest:
            return False
        return any(position > since for position in self._whole.values()) or any(
            position > since and read_rule(rule).covers(route, url, tags) for rule, position in self._rules.items()
        )

    def all(self) -> Iterable[tuple[int, bytes]]:
        """Each with its position."""
        return [(position, rule) for rule, position in (*self._whole.items(), *self._rules.items())]


def write_rule(rule: PurgeRule) -> bytes:
    """The rule as sidecars tell it each other."""
    if rule == EVERYTHING:
        return ALL
    parts: list[bytes] = []
    encode((rule.route, rule.url, rule.prefix, rule.tag), parts)
    return b"".join(parts)


def read_rule(octets: bytes) -> PurgeRule:
    """What `write_rule` wrote. What is nothing of the kind may come from a later version: it covers everything."""
    if octets in WHOLE:
        return EVERYTHING
    try:
        route, *others = cast("Plain", decode(octets))
        url, prefix, tag = (None if part is None else _octets(part) for part in others)
        if route is not None and not isinstance(route, str):
            raise TypeError("not a route")
        return PurgeRule(route, url, prefix, tag)
    except (ValueError, TypeError):
        return EVERYTHING


def _octets(part: object) -> bytes:
    if not isinstance(part, bytes):
        raise TypeError("not octets")
    return part
