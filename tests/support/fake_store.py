"""A `CacheStore` as a dict: what the port promises, with no bound and no haste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.ports import RouteEntries
from sidecar.pipeline.stats import StoreStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.core.stored import StoredResponse
    from sidecar.pipeline.ports import WriteToken


class FakeStore:
    """Keeps everything, and the history of what was forgotten."""

    def __init__(self) -> None:
        self.stats = StoreStats()
        self.entries: dict[bytes, list[StoredResponse]] = {}
        self.forgotten: list[Callable[[StoredResponse], bool]] = []

    def get(self, key: bytes) -> Sequence[StoredResponse]:
        return self.entries.get(key, ())

    def begin(self, key: bytes) -> WriteToken:  # noqa: ARG002 - one count for all keys
        return len(self.forgotten)

    def put(self, stored: StoredResponse, token: WriteToken) -> bool:
        if any(covers(stored) for covers in self.forgotten[token:]):
            return False
        others = [one for one in self.entries.get(stored.key, ()) if one.selecting != stored.selecting]
        self.entries[stored.key] = [stored, *others]
        return True

    def invalidate(self, key: bytes) -> int:
        return self._forget(lambda stored: stored.key == key)

    def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> int:
        return self._forget(
            lambda stored: (
                (route is None or stored.route == route)
                and (url is None or stored.url == url)
                and (prefix is None or stored.url.startswith(prefix))
                and (tag is None or tag in stored.tags)
            )
        )

    def summarize(self) -> Sequence[RouteEntries]:
        return [RouteEntries(stored.route, 1, len(stored.body), stored.born, len(stored.body)) for stored in self.all()]

    def all(self) -> list[StoredResponse]:
        return [stored for variants in self.entries.values() for stored in variants]

    def _forget(self, covers: Callable[[StoredResponse], bool]) -> int:
        self.forgotten.append(covers)
        before = len(self.all())
        self.entries = {
            key: [stored for stored in variants if not covers(stored)] for key, variants in self.entries.items()
        }
        return before - len(self.all())
