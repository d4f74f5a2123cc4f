"""The trace that a request belongs to (W3C Trace Context §3.2). Its fields pass untouched; here they are only read."""

from __future__ import annotations

import re

TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    rb"(?:\Z|(?<!00.{53})-)"
)
"""A valid `traceparent`. A version that is not known yet may say more than the four parts of version 00."""
SAMPLED = 1
"""The bit of the flags that says that the caller records its part of the trace (§3.2.2.5.1)."""
RECORDED = slice(54, 55)
"""Where in a `traceparent` the digit with that bit stands."""
RECORDED_DIGITS = frozenset((b"1", b"3", b"5", b"7", b"9", b"b", b"d", b"f"))
"""Those that have it."""
