"""What a benchmark puts on a proxy: wrk for speed, and clients that check every byte for what wrk does not look at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WRK_TIMEOUT = "10s"
REPORT_SCRIPT = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "socket_errors": %d, "refused": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
"""
VARY_SCRIPT = """
local asked = 0
request = function()
  asked = asked + 1
  return wrk.format(nil, nil, {["Traceparent"] = string.format("00-%032x-%016x-01", asked, asked)})
end
"""
READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadResult:
    """wrk's own count. Latencies in microseconds; `refused` are answers with a status of 400 and above."""

    requests: int
    seconds: float
    p50: int
    p99: int
    socket_errors: int
    refused: int


def run_wrk(url: str, *, core: int, seconds: int, connections: int, folder: Path, varied: bool = False) -> LoadResult:
    """Load `url` over keep-alive connections from one thread on `core`. `varied`: no two requests are the same."""
    script = folder / "load.lua"
    script.write_text(REPORT_SCRIPT + (VARY_SCRIPT if varied else ""), "ascii")
    argv = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", WRK_TIMEOUT]
    done = subprocess.run(
        [*argv, "-s", str(script), url], check=True, capture_output=True, text=True, timeout=seconds + 30
    )
    report = json.loads(done.stdout.splitlines()[-1])
    return LoadResult(seconds=report.pop("microseconds") / 1e6, **report)


@dataclass(frozen=True, slots=True)
class Tally:
    """Of all requests sent: answered with exactly their own body, answered otherwise, never answered."""

    right: int
    wrong: int
    lost: int


def ask_and_check(port: int, *, connections: int, rounds: int, seconds: float) -> Tally:
    """Hold that many connections open at once and send `rounds` requests on each, every one asking the origin's
    `/echo` for a text of its own; what has not come back after `seconds` is lost.
    """
    return asyncio.run(_ask_on_all(port, connections, rounds, seconds))


async def _ask_on_all(port: int, connections: int, rounds: int, seconds: float) -> Tally:
    verdicts: list[bool] = []
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
                for _, writer in streams:
                    stack.callback(writer.close)
                clients = (
                    _ask(reader, writer, f"c{number}", rounds, verdicts)
                    for number, (reader, writer) in enumerate(streams)
                )
                await asyncio.gather(*clients)
    right = sum(verdicts)
    return Tally(right, len(verdicts) - right, connections * rounds - len(verdicts))


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, rounds: int, verdicts: list[bool]
) -> None:
    # A connection that ends early leaves its requests without a verdict: they count as lost.
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for number in range(rounds):
            text = f"{name}-r{number}".encode()
            writer.write(b"GET /echo?%b HTTP/1.1\r\nHost: bench\r\n\r\n" % text)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_content_length(head))
            verdicts.append(head.startswith(b"HTTP/1.1 200 ") and body.split(maxsplit=1)[0] == text)


def _content_length(head: bytes) -> int:
    fields = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((int(value) for name, _, value in fields if name.lower() == b"content-length"), 0)


def get(port: int, path: str) -> tuple[int, int]:
    """Fetch once, keeping nothing. The status, and how many bytes of body arrived before the connection's end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode("ascii"))
        with connection.makefile("rb") as reader:
            status = int(reader.readline().split()[1])
            while reader.readline() not in (b"\r\n", b""):
                pass
            return status, _drain(reader.readinto)


def _drain(read_into: Callable[[bytearray], int]) -> int:
    buffer = bytearray(READ_SIZE)
    total = 0
    while count := read_into(buffer):
        total += count
    return total


@contextlib.contextmanager
def hanging_requests(port: int, count: int) -> Iterator[None]:
    """While inside, `count` clients have sent half of a request's head and say no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nX-Unfinished: ")
        yield
