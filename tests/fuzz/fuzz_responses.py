"""Coverage-guided fuzzing of the upstream reader: `python -m tests.fuzz.fuzz_responses -max_total_time=60`.

The first octet chooses the request's method; the rest is the response, read whole, byte by byte, and after all that was
read before.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from sidecar.adapters.upstream.response import Reading

with atheris.instrument_imports():
    from sidecar.pipeline.memo import Memo
    from tests.support.readers import disputed_response, every_byte, read_response

READS = 3
"""The second is remembered, the third made of it."""
memo: Memo[Reading] = Memo()
METHODS = ("GET", "HEAD")


def one_input(data: bytes) -> None:
    method, data = METHODS[data[0] % 2] if data else "GET", data[1:]
    for closed in (False, True):
        whole = read_response([data], method, closed=closed)
        assert read_response(every_byte(data), method, closed=closed) == whole, "byte by byte"
        for _ in range(READS):
            assert read_response([data], method, closed=closed, memo=memo) == whole, "with what was read before"
    assert (dispute := disputed_response(data, method)) is None, dispute


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
