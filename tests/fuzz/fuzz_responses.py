"""Coverage-guided fuzzing of the upstream reader: `python -m tests.fuzz.fuzz_responses -max_total_time=60`.

The first octet chooses the request's method; the rest is the response, read whole and byte by byte.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from tests.support.readers import disputed_response, every_byte, read_response

METHODS = ("GET", "HEAD")


def one_input(data: bytes) -> None:
    method, data = METHODS[data[0] % 2] if data else "GET", data[1:]
    for closed in (False, True):
        whole = read_response([data], method, closed=closed)
        assert read_response(every_byte(data), method, closed=closed) == whole, "byte by byte"
    assert (dispute := disputed_response(data, method)) is None, dispute


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
