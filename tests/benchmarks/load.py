"""What a benchmark puts on a proxy: wrk for speed, and clients that check every byte for what wrk does not look at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.benchmarks.origin import STORED_URLS

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
REAL_SCRIPT = """
local kind = "{kind}"
local with_credentials = kind ~= "hits"
local method, content = "GET", nil
if kind == "post" then method, content = "POST", '{{"order": "' .. string.rep("9", 980) .. '"}}' end
local hex, asked = {{}}, 0

function init(_)
  for i = 1, 4096 do
    local digits = {{}}
    for j = 1, 16 do digits[j] = string.format("%x", math.random(0, 15)) end
    hex[i] = table.concat(digits)
  end
end

local function some(step) return hex[(asked * step) % 4096 + 1] end

function request()
  asked = asked + 1
  local item = math.random(0, {urls} - 1)
  local headers = {{
    ["User-Agent"] = "python-httpx/0.28.1", ["Accept"] = "application/json", ["Accept-Encoding"] = "gzip, deflate, br",
    ["traceparent"] = "00-" .. some(1) .. some(7) .. "-" .. some(13) .. "-01",
    ["x-request-id"] = some(3) .. "-" .. asked, ["x-tenant"] = "t" .. item % 50,
  }}
  if with_credentials then
    headers["Authorization"] = "Bearer eyJhbGciOiJSUzI1NiJ9." .. string.rep(hex[item % 4096 + 1], 20)
  end
  if content then headers["Content-Type"] = "application/json" end
  return wrk.format(method, "{path}" .. item .. "?lang=en&page=" .. item % 7, headers, content)
end
"""
"""What real clients send: a URL, credentials, a trace id, a request id of its own in each request. `tests/support`'s
real_traffic.py sends the same where calls are counted.
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


@dataclass(frozen=True, slots=True)
class RealTraffic:
    """Requests of which no two are the same, for `urls` URLs. `kind`: `get` and `post` carry credentials, `hits` do
    not, so that they may be answered from a cache.
    """

    kind: str
    urls: int


def run_wrk(
    url: str, *, core: int, seconds: int, connections: int, folder: Path, traffic: RealTraffic | None = None
) -> LoadResult:
    """Load `url` over keep-alive connections from one thread on `core`: the same request over and over, or, below it,
    real `traffic`.
    """
    script = folder / "load.lua"
    real = ""
    if traffic is not None:
        path = urlsplit(url).path
        real = REAL_SCRIPT.format(kind=traffic.kind, urls=traffic.urls, path=path)
    script.write_text(REPORT_SCRIPT + real, "ascii")
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


def fetch_stored(port: int, path: str) -> None:
    """Fetch once each of the URLs that the real traffic for caches asks for below `path`."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rb") as reader:
        for item in range(STORED_URLS):
            lines = f"GET {path}{item}?lang=en&page={item % 7} HTTP/1.1\r\nHost: bench\r\n"
            connection.sendall(f"{lines}Accept-Encoding: gzip, deflate, br\r\n\r\n".encode("ascii"))
            head = b"".join(iter(reader.readline, b"\r\n"))
            reader.read(_content_length(head))


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
