"""The cascading failure, rehearsed: an upstream that first fails now and then, and later hangs, under steady traffic.

The same traffic runs twice, once through a sidecar whose policies are all off, and once with them. The upstream and the
sidecar are processes of their own, all is real but the reason why the upstream does badly.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from sidecar.adapters.demo_load import SteadyLoad
from sidecar.demo.outage import HOST, Ports, available, companion
from sidecar.demo.plot import drawing
from sidecar.demo.rehearsal import FALTERING, HEALTHY, SLOW, STEP, Load, Run, Scenario, goals, report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.adapters.demo_load import Answered

WITHOUT, WITH = "without policies", "with policies"
KEPT, MISSED, INTERRUPTED = 0, 1, 130
MODES = {HEALTHY: "healthy", FALTERING: "faltering", SLOW: "slow"}
"""What the upstream is told in each phase; after the last one it is healthy again."""
STARTUP = 15.0
FILES = 16_384
"""Descriptors for clients that all wait at once, where the machine allows them."""


def run_cascade(plot: Path | None, scenario: Scenario | None = None) -> int:
    """Run it twice, print what was measured, draw it into `plot`; 0 when the policies kept their goals, else 1."""
    scenario = scenario or Scenario()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _allow_descriptors()
    _say(
        f"{scenario.rate:g} requests per second for {scenario.duration:g} s, twice. The upstream is healthy for"
        f" {scenario.healthy:g} s,\nfails every second request for {scenario.faltering:g} s, hangs for"
        f" {scenario.slow:g} s, and is healthy again.\n\n"
    )
    try:
        without = asyncio.run(rehearse(scenario, WITHOUT))
        guarded = asyncio.run(rehearse(scenario, WITH))
    except KeyboardInterrupt:
        return INTERRUPTED
    _say(report(without, guarded))
    if plot is not None:
        plot.write_text(drawing([without, guarded]), encoding="utf-8")
        _say(f"\ndrawn into {plot}\n")
    return KEPT if all(goal.met for goal in goals(guarded)) else MISSED


async def rehearse(scenario: Scenario, name: str) -> Run:
    """One run, `WITH` or `WITHOUT` the policies."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        port = listener.getsockname()[1]
        origin = ["sidecar.adapters.demo_bottleneck", "--listen", f"fd:{listener.fileno()}"]
        stack.enter_context(companion(origin, listener.fileno()))
        ports = available(Ports(0, 0, 0))
        file = folder / "cascade.yaml"
        file.write_text(cascade_config(scenario, ports, port, policies=name == WITH), encoding="utf-8")
        stack.enter_context(companion(["sidecar", "run", "-c", str(file)], quiet=True))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        upstream = _Upstream(session, f"http://{HOST}:{port}")
        await _until_answered(session, f"http://{HOST}:{ports.telemetry}/readyz")
        answers = await _traffic(scenario, upstream, f"http://{HOST}:{ports.proxy}/shop/items")
        return Run(name, scenario, answers, upstream.loads)


class _Upstream:
    """The origin's remote control. `loads` is what was seen of it; times count from `begin`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.begin = 0.0
        self.loads: list[Load] = []
        self._session = session
        self._url = url

    async def become(self, mode: str) -> None:
        async with self._session.put(f"{self._url}/_mode/{mode}") as response:
            response.raise_for_status()

    async def look(self) -> None:
        async with self._session.get(f"{self._url}/_counts") as response:
            counts = await response.json()
        self.loads.append(Load(time.monotonic() - self.begin, counts["first"], counts["repeated"]))


async def _traffic(scenario: Scenario, upstream: _Upstream, url: str) -> list[Answered]:
    """The clients' answers, their times counted from the first request."""
    load = SteadyLoad(url, scenario.rate, scenario.patience, time.monotonic)
    upstream.begin = begin = time.monotonic() + STEP
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(begin, scenario.duration))
        tasks.create_task(_direct(scenario, upstream))
    await upstream.look()
    return [answer._replace(due=answer.due - begin) for answer in load.answers]


async def _direct(scenario: Scenario, upstream: _Upstream) -> None:
    """Have the upstream do what each phase says, and look at it meanwhile."""
    await upstream.look()
    for phase, begin, end in scenario.phases:
        await _until(upstream.begin + begin)
        await upstream.become(MODES.get(phase, "healthy"))
        for number in range(1, round((end - begin) / STEP) + 1):
            await _until(upstream.begin + begin + number * STEP - 0.01)
            await upstream.look()


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def _until_answered(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(STARTUP):
        async for ready in _asked(session, url):
            if ready:
                return


async def _asked(session: aiohttp.ClientSession, url: str) -> AsyncIterator[bool]:
    while True:
        try:
            async with session.get(url) as response:
                yield response.ok
        except aiohttp.ClientConnectionError:
            yield False
        await asyncio.sleep(0.05)


def cascade_config(scenario: Scenario, ports: Ports, origin_port: int, *, policies: bool) -> str:
    """What the sidecar runs with."""
    listeners = f"""\
proxy: {{listen: "{HOST}:{ports.proxy}", access_log: false, drain_timeout: 1s}}
admin: {{listen: "{HOST}:{ports.admin}"}}
telemetry: {{listen: "{HOST}:{ports.telemetry}"}}
upstreams:
  shop:
    url: http://{HOST}:{origin_port}
    cache: {{mode: "off"}}
"""
    if not policies:
        return f"""{listeners}\
    timeouts: {{first_byte: 1m}}
    breaker: {{mode: "off"}}
    retry: null
"""
    usual = scenario.rate * scenario.service_time
    return f"""{listeners}\
    timeouts: {{first_byte: {scenario.first_byte}s, total: {scenario.patience}s}}
    breaker:
      failure_threshold: 3
      failure_rate: null
      open_duration: {scenario.open_duration}s
      backoff: {{multiplier: 1, jitter: 0%}}
      success_threshold: 1
      ramp: {scenario.ramp}s
    retry: {{attempts: 2, budget: {{share: {scenario.budget:.0%}, floor: 0}}}}
    bulkhead: {{max_concurrent: {max(4, round(2 * usual))}}}
    rate_limit: {{rate: {round(2 * scenario.rate)}/s, burst: {round(2 * scenario.rate)}}}
    fallback: {{status: 200, body: "usual offers"}}
"""


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
