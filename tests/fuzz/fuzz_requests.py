"""Coverage-guided fuzzing of the downstream reader: `python -m tests.fuzz.fuzz_requests -max_total_time=60`.

Every input is read whole, byte by byte and in two pieces, which must agree; whatever is accepted must be delimited the
same way by the strict parser of the tests.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from tests.support.readers import disputed_request, every_byte, read_requests


def one_input(data: bytes) -> None:
    whole = read_requests([data])
    assert read_requests(every_byte(data)) == whole, "byte by byte"
    middle = len(data) // 2
    assert read_requests([data[:middle], data[middle:]]) == whole, "in two pieces"
    assert (dispute := disputed_request(data)) is None, dispute


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
