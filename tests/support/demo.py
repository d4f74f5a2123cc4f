"""`sidecar demo` as a process, with what it printed."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass, field

PATIENCE = 30.0
BRIEFLY_HEALTHY = """
import sys
from sidecar.adapters.demo_origin import Schedule
from sidecar.demo.outage import Ports, run_demo
sys.exit(run_demo(Schedule(healthy=5, failing=600), Ports(0, 0, 0)))
"""
"""A demo whose origin soon fails and stays so, on free ports: arguments for `DEMO`."""
DEMO = (sys.executable, "-u", "-c")


@dataclass
class Demo:
    """A running demo: where it listens, once `ready` has seen it say so."""

    process: asyncio.subprocess.Process
    output: str = ""
    proxy: str = ""
    admin: str = ""
    telemetry: str = ""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, *command: str) -> Demo:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        demo = cls(process)
        demo._reading = asyncio.get_running_loop().create_task(demo._read())
        return demo

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.output += line.decode()
            self._news.set()
        self._news.set()

    async def printed(self, pattern: str) -> re.Match[str]:
        """Wait until the output matches `pattern`."""
        assert self._reading is not None
        async with asyncio.timeout(PATIENCE):
            while (found := re.search(pattern, self.output)) is None:
                assert not self._reading.done(), f"ended without printing {pattern!r}:\n{self.output}"
                self._news.clear()
                await self._news.wait()
        return found

    async def ready(self) -> None:
        """Wait until every listener is up and the origin answers."""
        self.proxy = (await self.printed(r"curl -i (http://\S+?)/catalog/"))[1]
        self.admin = (await self.printed(r"curl -s (http://\S+?)/v1/circuits"))[1]
        self.telemetry = (await self.printed(r"curl -s (http://\S+?)/metrics"))[1]
        await self.printed("demo origin: healthy")
        for listener in ("proxy", "admin", "telemetry"):
            await self.printed(f"{listener} listens on")

    async def stop(self) -> None:
        """End it whatever it does."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()
            if self._reading is not None:
                await self._reading
