"""Reloads under load: `python -m tests.benchmarks.reloads [RELOADS [SECONDS]]` (50 in 30 by default).

A real sidecar watches a ConfigMap that is swapped again and again: routes come and go, thresholds and an upstream's
pool change, a listener is added and taken away, and now and then the file is broken. Clients ask all the time, over
connections that stay and over new ones. Exit 1 on a request that fails, a circuit that loses its state, or growth.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.support.client import connect
from tests.support.config_map import ConfigMap
from tests.support.origin import READ_HEAD, RESET, RawOrigin
from tests.support.running import SidecarProcess

CLIENTS = 8
GROWTH_ALLOWED = 3 * 1024 * 1024
DESCRIPTORS_ALLOWED = CLIENTS
WARM_UP = 6
"""Reloads after which memory should no longer grow."""
STAYS = b"GET /stays/ HTTP/1.1\r\nHost: a\r\n\r\n"
CHANGES = b"GET /changes/ HTTP/1.1\r\nHost: a\r\n\r\n"
BROKEN_EVERY = 7


@dataclass
class Figures:
    """What was seen. `rss` and `descriptors` are of the sidecar, once after the warm-up and once in the end."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    applied: int = 0
    refused: int = 0
    lost_states: int = 0
    rss: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


def verdict(figures: Figures, reloads: int) -> list[str]:
    """Everything that is wrong."""
    wrong = list(figures.failures)
    if set(figures.statuses) != {200}:
        wrong.append(f"statuses: {dict(figures.statuses)}")
    if figures.lost_states:
        wrong.append(f"the open circuit was not open after {figures.lost_states} reloads")
    if figures.applied + figures.refused != reloads:
        wrong.append(f"{figures.applied} applied and {figures.refused} refused of {reloads}")
    if figures.rss[-1] - figures.rss[0] > GROWTH_ALLOWED:
        wrong.append(f"memory grew from {figures.rss[0]} to {figures.rss[-1]} bytes")
    if figures.descriptors[-1] - figures.descriptors[0] > DESCRIPTORS_ALLOWED:
        wrong.append(f"descriptors grew from {figures.descriptors[0]} to {figures.descriptors[-1]}")
    return wrong


class Run:
    """One run against origins of its own."""

    def __init__(self, reloads: int, seconds: float) -> None:
        self.figures = Figures()
        self._reloads = reloads
        self._pause = seconds / reloads
        self._ended = asyncio.Event()
        self._good, self._broken = RawOrigin(), RawOrigin((READ_HEAD, RESET))
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self._ports = one.getsockname()[1], other.getsockname()[1]

    async def run(self) -> Figures:
        """Start everything, reload, stop everything."""
        await self._good.start("127.0.0.1")
        await self._broken.start("127.0.0.1")
        with tempfile.TemporaryDirectory() as folder:
            mount = ConfigMap(Path(folder, "etc"), self._text(0))
            sidecar = await (await SidecarProcess.launch(mount.file)).ready()
            try:
                # The second attempt meets the circuit that the first has opened.
                assert (await sidecar.get("/open/")).status == 503
                async with asyncio.TaskGroup() as group:
                    for number in range(CLIENTS):
                        group.create_task(self._ask(sidecar, lasting=number % 4 > 0))
                    await self._reload(sidecar, mount)
                    self._ended.set()
                sidecar.terminate()
                if (code := await sidecar.exit_code()) != 0:
                    self.figures.failures.append(f"exit code {code}")
            finally:
                await sidecar.stop()
                await self._good.stop()
                await self._broken.stop()
        return self.figures

    async def _reload(self, sidecar: SidecarProcess, mount: ConfigMap) -> None:
        for number in range(1, self._reloads + 1):
            broken = number % BROKEN_EVERY == 0
            mount.change("upstreams: {a: {url: 17}}\n" if broken else self._text(number))
            await asyncio.sleep(self._pause)
            circuit = await sidecar.api("GET", "/v1/circuits/open")
            self.figures.lost_states += circuit["state"] != "open" or circuit["trip"] is None
            if number in {WARM_UP, self._reloads}:
                gc.collect()
                self.figures.rss.append(sidecar.rss())
                self.figures.descriptors.append(sidecar.descriptors())
        seen = await sidecar.metrics()
        self.figures.applied = int(seen.total("sidecar_config_reloads_total", result="success"))
        self.figures.refused = int(seen.total("sidecar_config_reloads_total", result="error"))

    async def _ask(self, sidecar: SidecarProcess, *, lasting: bool) -> None:
        client = await connect(sidecar.proxy)
        asked = 0
        while not self._ended.is_set():
            asked += 1
            try:
                response = await client.exchange(CHANGES if asked % 2 else STAYS)
                self.figures.statuses[response.status] += 1
            except (OSError, AssertionError, EOFError) as error:
                self.figures.failures.append(f"{type(error).__name__}: {error}")
                client.transport.abort()
                client = await connect(sidecar.proxy)
            if not lasting:
                client.transport.abort()
                client = await connect(sidecar.proxy)
        client.transport.abort()

    def _text(self, number: int) -> str:
        """The configuration after so many changes."""
        url, off = self._good.url, {"mode": "off"}
        upstreams: dict[str, Any] = {
            "open": {
                "url": self._broken.url,
                "cache": off,
                "breaker": {"failure_threshold": 1, "open_duration": "1h"},
            },
            "stays": {"url": url, "cache": off},
            "changes": {
                "url": url,
                "cache": off,
                "breaker": {"failure_threshold": 5 + number % 3},
                "pool": {"max_connections": 1000 + number % 4},
            },
            f"new{number % 5}": {"url": url},
        }
        proxy = [f"127.0.0.1:{port}" for port in self._ports[: 1 + number % 2]]
        free = {"listen": "127.0.0.1:0"}
        config = {
            "proxy": {"listen": proxy, "access_log": False},
            "admin": free,
            "telemetry": free,
            "reload": {"interval": "50ms"},
            "upstreams": upstreams,
        }
        return json.dumps(config, indent=1)


def main(arguments: list[str]) -> int:
    """Run, and print the figures."""
    reloads, seconds = int(arguments[0]) if arguments else 50, float(arguments[1]) if arguments[1:] else 30.0
    figures = uvloop.run(Run(reloads, seconds).run())
    sys.stdout.write(f"{reloads} reloads in {seconds:g} s: {figures.applied} applied, {figures.refused} refused\n")
    sys.stdout.write(f"requests: {figures.statuses.total()}, statuses {dict(figures.statuses)}\n")
    sys.stdout.write(f"rss {[round(level / 2**20, 1) for level in figures.rss]} MiB, fds {figures.descriptors}\n")
    wrong = verdict(figures, reloads)
    sys.stdout.writelines(f"WRONG: {line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
