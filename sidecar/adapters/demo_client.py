"""The demo's application: a process of its own that sends light traffic through the sidecar.

`python -m sidecar.adapters.demo_client http://127.0.0.1:4100/catalog/items/1 …`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = aiohttp.ClientTimeout(total=10)


async def send(urls: Sequence[str], interval: float, count: int | None = None) -> None:
    """GET the `urls` in turn, one every `interval` seconds, whatever becomes of them: `count` times, or for ever."""
    async with aiohttp.ClientSession(timeout=PATIENCE) as session:
        for url in itertools.islice(itertools.cycle(urls), count):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # the sidecar may be starting or draining
                await _get(session, url)
            await asyncio.sleep(interval)


async def _get(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url) as response:
        await response.read()


def main(arguments: Sequence[str]) -> None:
    """Send until SIGTERM or SIGINT, or to the end of the count."""
    parser = argparse.ArgumentParser(prog="demo_client", description="Light traffic for a demo.")
    parser.add_argument("urls", nargs="+", help="requested in turn")
    parser.add_argument("--interval", type=float, default=0.25, help="seconds between requests")
    parser.add_argument("--count", type=int, help="requests; without it there is no end")
    options = parser.parse_args(arguments)
    # As process 1 of a container nothing would end it without a handler.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(send(options.urls, options.interval, options.count))


if __name__ == "__main__":
    main(sys.argv[1:])
