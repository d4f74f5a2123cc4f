"""The sidecar under test: built in this process, or run as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import GOOD, RawClient, connect
from tests.support.origin import RawOrigin
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    import ssl

    from sidecar.app import App
    from tests.support.messages import WireResponse

Block: TypeAlias = "dict[str, Any]"
ROUTE = "all"


def config_text(
    origin: RawOrigin | str | list[str] | None,
    *,
    proxy: Block | None = None,
    upstream: Block | None = None,
    route: Block | None = None,
    top: Block | None = None,
) -> str:
    """A configuration (JSON is YAML) with one upstream `origin` behind one route `all` that takes every path.

    The cache and retries are off and every listener takes a free port unless a block says otherwise.
    """
    urls = origin.url if isinstance(origin, RawOrigin) else origin
    where: Block = {"endpoints": urls} if isinstance(urls, list) else {"url": urls}
    listeners = {name: {"listen": "127.0.0.1:0"} for name in ("proxy", "admin", "telemetry")}
    config: Block = {
        **listeners,
        "upstreams": {"origin": {**where, "cache": {"mode": "off"}, "retry": None, **(upstream or {})}},
        "routes": [{"name": ROUTE, "match": {"prefix": "/"}, "upstream": "origin", **(route or {})}],
        **(top or {}),
    }
    config["proxy"] = {**config["proxy"], **(proxy or {})}
    return json.dumps(config, indent=1)


@dataclass
class Metrics:
    """One scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum over every series of `name` that has these labels."""
        wanted = set(labels.items())
        return sum(value for (key, have), value in self.samples.items() if key == name and wanted <= have)


def parse_metrics(text: str) -> Metrics:
    return Metrics(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


@dataclass
class Sidecar:
    """Where a running sidecar listens, and the questions that tests ask it."""

    addresses: dict[str, list[Any]]
    clients: list[RawClient] = field(default_factory=list)

    @property
    def proxy(self) -> tuple[str, int] | str:
        return self._first("proxy")

    def _first(self, listener: str) -> tuple[str, int] | str:
        address = self.addresses[listener][0]
        if isinstance(address, str):
            return address.removeprefix("unix:")
        return (address[0], address[1])

    async def connect(
        self, *, tls: ssl.SSLContext | None = None, server_hostname: str | None = None, number: int = 0
    ) -> RawClient:
        address = self.addresses["proxy"][number]
        address = address.removeprefix("unix:") if isinstance(address, str) else tuple(address[:2])
        client = await connect(address, tls=tls, server_hostname=server_hostname)
        self.clients.append(client)
        return client

    async def exchange(self, data: bytes, method: str = "GET") -> WireResponse:
        """One request on a connection of its own."""
        client = await self.connect()
        return await client.exchange(data, method)

    async def get(self, target: str = "/", *lines: str) -> WireResponse:
        head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines])
        return await self.exchange(head.encode("latin-1") + b"\r\n\r\n")

    async def is_well(self) -> bool:
        """A good request on a connection of its own is answered by the upstream."""
        return (await self.exchange(GOOD)).status == 200

    async def metrics(self) -> Metrics:
        return parse_metrics((await self._ask("telemetry", "GET", "/metrics")).decode())

    async def api(self, method: str, path: str, body: Block | None = None) -> Any:
        """The JSON that the admin API answers."""
        payload = b"" if body is None else json.dumps(body).encode()
        answer = await self._ask("admin", method, path, payload)
        return json.loads(answer) if answer else None

    async def _ask(self, listener: str, method: str, path: str, payload: bytes = b"") -> bytes:
        address = self._first(listener)
        client = await connect(address)
        host = "localhost" if isinstance(address, str) else f"{address[0]}:{address[1]}"
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        if payload:
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        await client.send(head.encode() + b"\r\n" + payload)
        await client.until(lambda: client.ended)
        client.transport.abort()
        response = await client.response(method)
        assert response.status < 300, (response.status, response.body)
        return response.body

    async def is_quiet(self) -> bool:
        """Wait until nothing is in flight: no request, no busy upstream connection."""
        async with asyncio.timeout(PATIENCE):
            while True:
                seen = await self.metrics()
                busy = seen.total("sidecar_upstream_connections", state="active")
                if seen.total("sidecar_requests_in_flight") == 0 and busy == 0:
                    return True
                await asyncio.sleep(0.005)

    def hang_up(self) -> None:
        for client in self.clients:
            client.transport.abort()


@dataclass
class InProcess(Sidecar):
    """A sidecar in this very process, on this loop."""

    app: App | None = None

    @classmethod
    async def start(cls, text: str) -> InProcess:
        # Imported here so that tests of the core run while the whole does not import.
        from sidecar.adapters.config_file import load_text  # noqa: PLC0415 - see above
        from sidecar.app import RealClock, build  # noqa: PLC0415 - see above

        loaded = load_text(text, {})
        assert loaded.config is not None, loaded.problems
        app = build(loaded.config, RealClock())
        await app.start()
        return cls(app.addresses, app=app)

    def permits(self) -> int:
        """Probes that circuits wait for."""
        assert self.app is not None
        now = self.app.runtime.clock.monotonic()
        return sum(circuit.snapshot(now).probes_in_flight for circuit in self.app.data.routes.circuits.values())

    async def stop(self) -> None:
        assert self.app is not None
        await self.app.stop()


class SidecarProcess(Sidecar):
    """`python -m sidecar run -c FILE`, with what it printed and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__({})
        self.process = process
        self.output = ""
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self._printed = asyncio.Event()

    @classmethod
    async def launch(cls, file: Path, *arguments: str) -> SidecarProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sidecar",
            "run",
            "-c",
            str(file),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        return cls(process)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.output += line.decode()
            self._printed.set()
        self._printed.set()

    async def printed(self, pattern: str) -> re.Match[str]:
        """Wait until the output matches `pattern`."""
        async with asyncio.timeout(PATIENCE):
            while (match := re.search(pattern, self.output)) is None:
                assert not self._reader.done(), f"ended without printing {pattern!r}:\n{self.output}"
                self._printed.clear()
                await self._printed.wait()
        return match

    async def ready(self) -> SidecarProcess:
        """Wait until it says where it listens."""
        for name in ("proxy", "admin", "telemetry"):
            found = await self.printed(rf"{name}\b[^\n]*?((?:\[[^\]]+\]|[0-9.]+):([0-9]+))")
            host, _, port = found[1].rpartition(":")
            self.addresses[name] = [(host.strip("[]").replace("0.0.0.0", "127.0.0.1"), int(port))]
        return self

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reader
        return code

    def rss(self) -> int:
        """Resident bytes now."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def stop(self) -> None:
        """End it whatever it does."""
        self.hang_up()
        if self.process.returncode is None:
            self.process.kill()
        await self.exit_code()
