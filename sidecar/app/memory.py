"""What keeps the process small and its memory at hand: the C library's allocator, the garbage collector, and the
certificate authorities that nobody needs.
"""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 4 * 1024 * 1024
"""Octets free at the top of the heap that stay with the process."""
LARGE = 1024 * 1024
"""Octets from which on a block is mapped for itself, and given back at once. Larger than any read from a socket."""
GC_THRESHOLDS = (10_000, 10, 10)
"""Rarer collections than the default: what a request leaves behind is freed by its reference counts."""
TRUST_STORES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where OpenSSL is told to look for certificate authorities."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tell the allocator to keep what is freed at the top of its heap for the next body; whether it was told.

    A proxy frees and allocates the same tens of kilobytes with every large body. glibc would give them back to the
    kernel each time (M_TRIM_THRESHOLD, 128 KiB by default) and then pay for each page anew: a third of the CPU of a
    100 KB answer. A libc without mallopt (musl) is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, KEPT))


def give_back_freed_memory() -> bool:
    """Give the kernel what lies free between blocks in use; whether there was any.

    To be called once what a start leaves behind is free: two megabytes, of modules that were compiled and of the
    configuration's text. While requests are served it would cost more than it gives.
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    return bool(malloc_trim(0))


def collect_rarely() -> None:
    """Take what there is now out of the garbage collector's hands, and call it in seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


@contextmanager
def hidden_trust_store() -> Iterator[None]:
    """Within it OpenSSL finds no certificate authorities; afterwards it finds them where it did before.

    aiohttp reads every authority of the system when it is imported, two megabytes of them, for clients that bring no
    TLS context of their own. Here each brings one (adapters/upstream/tls.py).
    """
    before = {name: os.environ.get(name) for name in TRUST_STORES}
    os.environ.update(dict.fromkeys(TRUST_STORES, os.devnull))
    try:
        yield
    finally:
        for name, place in before.items():
            if place is None:
                del os.environ[name]
            else:
                os.environ[name] = place
