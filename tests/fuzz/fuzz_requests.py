"""Coverage-guided fuzzing of the downstream reader: `python -m tests.fuzz.fuzz_requests -max_total_time=60`.

Every input is read whole, byte by byte, in two pieces and after all that was read before, which must agree; whatever is
accepted must be delimited the same way by the strict parser of the tests.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from sidecar.adapters.server.incoming import Incoming

with atheris.instrument_imports():
    from sidecar.pipeline.memo import Memo
    from tests.support.readers import disputed_request, every_byte, read_requests

READS = 3
"""The second is remembered, the third made of it."""
memo: Memo[Incoming] = Memo()


def one_input(data: bytes) -> None:
    whole = read_requests([data])
    assert read_requests(every_byte(data)) == whole, "byte by byte"
    middle = len(data) // 2
    assert read_requests([data[:middle], data[middle:]]) == whole, "in two pieces"
    for _ in range(READS):
        assert read_requests([data], memo) == whole, "with what was read before"
    assert (dispute := disputed_request(data)) is None, dispute


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
