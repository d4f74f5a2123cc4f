"""The C library's allocator, told to keep what is freed at the top of its heap for the next body.

A proxy frees and allocates the same tens of kilobytes with every large body. glibc would give them back to the kernel
each time (M_TRIM_THRESHOLD, 128 KiB by default) and then pay for each page anew: a third of the CPU of a 100 KB answer.
"""

from __future__ import annotations

import ctypes

KEPT = 4 * 1024 * 1024
"""Octets free at the top of the heap that stay with the process."""
LARGE = 1024 * 1024
"""Octets from which on a block is mapped for itself, and given back at once. Larger than any read from a socket."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Set both thresholds for this process; whether they were. A libc without mallopt (musl) is left as it is."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, KEPT))
