"""What the sidecars of a fleet share of their caches: purges, and their stored answers where `cache.store` says so."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sidecar.core.config import CacheStoreKind
from sidecar.pipeline.possible_series import begin_shared_store
from sidecar.pipeline.shared_store.shared_store import SharedStore
from sidecar.pipeline.stats import SharedStoreStats

if TYPE_CHECKING:
    from sidecar.core.config import Config
    from sidecar.pipeline.ports import CacheStore
    from sidecar.pipeline.runtime import Runtime


def share_store(config: Config, memory: CacheStore, runtime: Runtime) -> SharedStore | None:
    """What stands behind `memory`; None where this sidecar is alone. The client of Redis is known to be installed."""
    if config.redis is None:
        return None
    from sidecar.adapters.redis.cache_store import RedisCacheStore  # noqa: PLC0415 - it weighs 7 MB

    stats = SharedStoreStats()
    begin_shared_store(stats)
    # A name of this process's own, also where a configuration names the pod: a successor is somebody else.
    name = f"{random.getrandbits(64):016x}"
    far = RedisCacheStore(config.redis, name, config.cache.max_variants, stats.redis, runtime.clock)
    read_timeout = config.redis.read_timeout if config.cache.store is CacheStoreKind.REDIS else None
    return SharedStore(memory, far, runtime, stats, read_timeout)
