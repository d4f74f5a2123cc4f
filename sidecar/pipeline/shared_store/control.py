"""The control of stored answers that a fleet shares: a purge here is one everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.local_control import LocalCache

if TYPE_CHECKING:
    from sidecar.pipeline.ports import CacheStore, Purged
    from sidecar.pipeline.shared_store.shared_store import SharedStore


class SharedCache(LocalCache):
    """A `CacheControl`. Purged here is purged before anybody else is told."""

    def __init__(self, store: CacheStore, shared: SharedStore) -> None:
        super().__init__(store)
        self._shared = shared

    async def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        """Forget what all the given selectors cover, here and, unless Redis fails, in the fleet's store."""
        purged = await super().purge(route=route, url=url, prefix=prefix, tag=tag)
        return purged._replace(told=await self._shared.told())
