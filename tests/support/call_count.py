"""How many Python calls one request costs in the sidecar: deterministic, where times are not.

A call is a frame of the package `sidecar` that is entered or, for a coroutine, resumed: llhttp's callbacks count, and
so does formatting the request's line of the access log.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import sidecar
from sidecar.adapters.config_file import load_text
from sidecar.adapters.logs import access
from sidecar.adapters.server import client_deadlines
from sidecar.app import RealClock, build
from tests.support import real_traffic
from tests.support.running import InProcess, config_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from sidecar.adapters.logs import LineSink

PACKAGE = str(Path(sidecar.__file__).parent)
WARM_UP = 300
COUNTED = 100
URLS = 50


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one request on an average, and the modules in which every request makes some."""

    each: Counter[str]
    modules: int

    @property
    def total(self) -> float:
        return self.each.total() / COUNTED

    def __str__(self) -> str:
        rows = (f"{count / COUNTED:8.2f}  {name}" for name, count in self.each.most_common())
        return "\n".join([f"{self.total:.1f} calls in {self.modules} modules", *rows])


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked for: requests like these, after the origin began to fail if `failing`, by these `policies`."""

    prefix: bytes
    method: bytes = b"GET"
    failing: bool = False
    max_age: int = 3600
    policies: Mapping[str, Any] = field(default_factory=lambda: {"retry": {"attempts": 2}})


EVERY_POLICY = {
    "timeouts": {"total": "30s"},
    "retry": {"attempts": 2},
    "bulkhead": {"max_concurrent": 100, "max_queue": 10, "adaptive": True, "priority": {"header": "x-p", "low": ["b"]}},
    "rate_limit": {"rate": "100000/s"},
    "fallback": {"status": 200, "body": "calm"},
    "fault": {"abort": {"status": 503}, "match": {"headers": {"x-drill": "yes"}}, "ttl": "24h"},
}
WORK = {
    "real-get": Work(b"/private/items/"),
    "real-post": Work(b"/private/orders/", b"POST"),
    "real-hits": Work(b"/public/items/"),
    "real-refused": Work(b"/private/items/", failing=True),
    "real-stale": Work(b"/public/items/", failing=True, max_age=0),
    "real-get-guarded": Work(b"/private/items/", policies=EVERY_POLICY),
}


class NoSink:
    """Takes the access log's lines, so that they are made."""

    dropped = 0
    terminal = False

    def write(self, batch: bytes, lines: int) -> None:
        """Nothing becomes of them."""


async def calls_of(work: Work) -> Calls:
    """Serve real traffic with everything on, and count."""
    # No time decides what falls into the count: as many lines of the log are formatted as requests are counted, and
    # deadlines for a next request stay where they are, as on a busy connection.
    with (
        patch.multiple(access, FLUSH_INTERVAL=3600.0, BATCH_LINES=COUNTED),
        patch.object(client_deadlines, "IDLE_GRACE", 3600.0),
    ):
        return await _calls_of(work)


async def _calls_of(work: Work) -> Calls:
    asked = real_traffic.requests(work.prefix, URLS, method=work.method)
    async with real_traffic.Site() as site:
        site.max_age = work.max_age
        text = config_text(
            site.url,
            upstream={
                "cache": {"mode": "standard", "stale_ttl": "1h"},
                **work.policies,
                "breaker": {"failure_threshold": 2, "open_duration": "1h"},
            },
        )
        loaded = load_text(text, {})
        assert loaded.config is not None, loaded.problems
        sink: Any = NoSink()
        app = build(loaded.config, RealClock(), _as_sink(sink))
        await app.start()
        running = InProcess(app.addresses, app=app)
        try:
            return await _count(running, site, asked, failing=work.failing)
        finally:
            running.hang_up()
            await running.stop()


def _as_sink(sink: LineSink) -> LineSink:
    return sink


async def _count(sidecar: InProcess, site: real_traffic.Site, asked: Iterator[bytes], *, failing: bool) -> Calls:
    client = await sidecar.connect()
    for one in islice(asked, WARM_UP):
        assert (await client.exchange(one)).status == 200
    if failing:
        site.fails = True
        for one in islice(asked, 20):
            await client.exchange(one)
    client.forget()
    each: Counter[str] = Counter()
    modules: Counter[str] = Counter()

    def entered(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            module = code.co_filename[len(PACKAGE) + 1 :]
            each[f"{module}:{code.co_qualname}"] += 1
            modules[module] += 1

    counted = list(islice(asked, COUNTED))
    sys.setprofile(entered)
    try:
        for one in counted:
            await client.exchange(one)
            client.forget()
    finally:
        sys.setprofile(None)
    return Calls(each, sum(count >= COUNTED for count in modules.values()))
