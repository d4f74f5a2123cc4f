"""Fills an embedded store and prints the bytes that it counts and the bytes by which this process grew.

Arguments: answers to keep, octets per body, fields per head, and how many times as many to put.
"""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

from sidecar.adapters.memory_store import MemoryStore
from sidecar.core.cache.stored import StoredResponse, UseRules
from sidecar.core.config import CacheStoreSettings
from sidecar.core.http.heads import Headers, ResponseHead
from tests.support.stored_answers import StillClock


def resident() -> int:
    """Bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def answer(number: int, body: int, fields: int) -> StoredResponse:
    """An answer whose octets are shared with no other."""
    url = b"http://catalog.svc:8080/items/%08d?page=1" % number
    head = [(b"X-Field-%d" % field, b"value %d of %08d" % (field, number)) for field in range(fields)]
    return StoredResponse(
        key=b"G catalog " + url,
        selecting=(),
        head=ResponseHead(200, Headers(head), b"OK"),
        body=b"%08d" % number + bytes(body - 8),
        born=float(number),
        expires_at=number + 1.0,
        keep_until=number + 1e6,
        stored_wall=number + 1e9,
        rules=UseRules(),
        route="catalog",
        url=url,
    )


def main(count: int, body: int, fields: int, churn: int) -> None:
    """Print the bytes counted and the bytes grown."""
    trial = MemoryStore(CacheStoreSettings(), StillClock())
    trial.put(answer(0, body, fields), 0)
    each = trial.stats.bytes
    del trial
    gc.collect()
    before = resident()
    store = MemoryStore(CacheStoreSettings(max_size=count * each * 16 // 15), StillClock())
    for number in range(count * churn):
        store.put(answer(number, body, fields), 0)
    gc.collect()
    print(store.stats.bytes, resident() - before)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
