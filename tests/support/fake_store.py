"""A `CacheStore` as a dict: what the port promises, with no bound and no haste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.ports import URLS_TOLD, AnswerList, ListedAnswer, Purged, RouteEntries
from sidecar.pipeline.stats import StoreStats

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Sequence

    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.storage.purging import PurgeRule
    from sidecar.pipeline.ports import StoreFollower, WriteToken


class FakeStore:
    """Keeps everything, and the history of what was forgotten."""

    def __init__(self) -> None:
        self.stats = StoreStats()
        self.arriving: dict[bytes, int] = {}
        self.puts = 0
        self.unread: Container[bytes] = ()
        self.follower: StoreFollower | None = None
        self.entries: dict[bytes, list[StoredResponse]] = {}
        self.forgotten: list[Callable[[StoredResponse | Draft], bool]] = []

    def get(self, key: bytes) -> Sequence[StoredResponse]:
        return self.entries.get(key, ())

    def begin(self, key: bytes) -> WriteToken:  # noqa: ARG002 - one count for all keys
        return len(self.forgotten)

    def put(self, stored: StoredResponse, token: WriteToken) -> bool:
        if self.raced(stored, token):
            return False
        others = [one for one in self.entries.get(stored.key, ()) if one.selecting != stored.selecting]
        self.entries[stored.key] = [stored, *others]
        self.puts += 1
        return True

    def raced(self, stored: StoredResponse | Draft, token: WriteToken) -> bool:
        return any(covers(stored) for covers in self.forgotten[token:])

    def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> int:
        self.forgotten.append(lambda stored: stored.key == key)
        return self._drop(lambda stored: stored.key == key and (variants is None or stored.selecting in variants))

    def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        def covers(stored: StoredResponse | Draft) -> bool:
            return (
                (route is None or stored.route == route)
                and (url is None or stored.url == url)
                and (prefix is None or stored.url.startswith(prefix))
                and (tag is None or tag in stored.tags)
            )

        urls = dict.fromkeys(stored.url for stored in self.all() if covers(stored))
        return Purged(self._forget(covers), tuple(urls)[:URLS_TOLD])

    def list_answers(self, rules: Sequence[PurgeRule], start: int, limit: int) -> AnswerList:
        matching = [one for one in self.all() if any(rule.covers(one.route, one.url, one.tags) for rule in rules)]
        listed = [
            ListedAnswer(one.url, one.route, one.tags, one.born, one.expires_at, len(one.body)) for one in matching
        ]
        end = start + limit
        return AnswerList(listed[start:end], end if end < len(listed) else None)

    def summarize(self) -> Sequence[RouteEntries]:
        return [RouteEntries(stored.route, 1, len(stored.body), stored.born, len(stored.body)) for stored in self.all()]

    def all(self) -> list[StoredResponse]:
        return [stored for variants in self.entries.values() for stored in variants]

    def _forget(self, covers: Callable[[StoredResponse | Draft], bool]) -> int:
        self.forgotten.append(covers)
        return self._drop(covers)

    def _drop(self, covers: Callable[[StoredResponse | Draft], bool]) -> int:
        before = len(self.all())
        self.entries = {
            key: [stored for stored in variants if not covers(stored)] for key, variants in self.entries.items()
        }
        return before - len(self.all())
