"""A process goes on and ends as it should whatever its standard streams are: closed, broken, full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.support.client import GOOD, connect
from tests.support.running import config_text
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.conftest import StartOrigin

READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSED = [*chain.from_iterable(combinations((0, 1, 2), count) for count in (1, 2, 3))]
CLOSING = "import os, sys\nfor fd in map(int, sys.argv[1]): os.close(fd)\nos.execv(sys.executable, sys.argv[2:])"
"""Descriptors that subprocess would replace by its own are closed in between, as a careless supervisor does."""


class Launched:
    """A sidecar whose listeners are sockets below `folder`, since it may have no way to tell its ports."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder

    async def ready(self) -> Launched:
        async with asyncio.timeout(PATIENCE):
            while True:
                # The file comes a moment before its socket listens.
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    if await self._answers("telemetry", READY):
                        return self
                await asyncio.sleep(0.01)

    def descriptor(self, number: int) -> str:
        return str(Path(f"/proc/{self.process.pid}/fd/{number}").readlink())

    async def works(self) -> bool:
        return await self._answers("proxy", GOOD)

    async def _answers(self, listener: str, request: bytes) -> bool:
        client = await connect(str(self.folder / f"{listener}.sock"))
        try:
            return (await client.exchange(request)).status == 200
        finally:
            client.transport.abort()

    async def ended_by(self, number: int) -> int:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


class Launch(Protocol):
    async def __call__(self, closed: tuple[int, ...] = ..., upstream: Any = ..., **more: Any) -> Launched: ...


@pytest.fixture
async def launch(start_origin: StartOrigin, tmp_path: Path) -> AsyncIterator[Launch]:
    """Run a sidecar with the access log on. `closed` descriptors are closed; `more` is for subprocess."""
    origin = await start_origin()
    listen: dict[str, Any] = {
        name: {"listen": f"unix:{tmp_path}/{name}.sock"} for name in ("proxy", "admin", "telemetry")
    }
    started: list[asyncio.subprocess.Process] = []

    async def start(closed: tuple[int, ...] = (), upstream: Any = None, **more: Any) -> Launched:
        file = tmp_path / "sidecar.yaml"
        file.write_text(config_text(origin, proxy=listen["proxy"], top=listen, upstream=upstream))
        run = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        command = [sys.executable, "-c", CLOSING, "".join(map(str, closed)), *run]
        process = await asyncio.create_subprocess_exec(*command, **more)
        started.append(process)
        return Launched(process, tmp_path)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("closed", CLOSED, ids=str)
async def test_closed_streams_change_nothing(launch: Launch, closed: tuple[int, ...]) -> None:
    sidecar = await (await launch(closed)).ready()
    assert await sidecar.works()
    assert await sidecar.works()
    assert {sidecar.descriptor(number) for number in closed} == {"/dev/null"}
    assert await sidecar.ended_by(signal.SIGTERM) == 0


def _full() -> int:
    """The end of a pipe that is full; whoever reads it is this process, which does not."""
    writing = _unread()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    return writing


def _unread() -> int:
    reading, writing = os.pipe()
    UNREAD.append(reading)
    return writing


def _broken() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


UNREAD: list[int] = []
STREAMS: dict[str, Callable[[], int]] = {
    "broken": _broken,
    "full": _full,
    "nobody reads": _unread,
    "full device": lambda: os.open("/dev/full", os.O_WRONLY),
}


@pytest.fixture(params=STREAMS)
def taking_nothing(request: pytest.FixtureRequest) -> Iterator[int]:
    descriptor = STREAMS[request.param]()
    yield descriptor
    os.close(descriptor)
    while UNREAD:
        os.close(UNREAD.pop())


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_stream_that_takes_nothing_changes_nothing(launch: Launch, stream: str, taking_nothing: int) -> None:
    warned: Any = {"breaker": {"open_duration": "1s"}}  # so that there is something to say on standard error as well
    where: Any = {stream: taking_nothing}
    sidecar = await (await launch(upstream=warned, **where)).ready()
    assert await sidecar.works()
    assert await sidecar.works()
    assert await sidecar.ended_by(signal.SIGTERM) == 0


async def test_a_start_that_fails_has_its_exit_code(launch: Launch, taking_nothing: int) -> None:
    sidecar = await launch(upstream={"nonsense": 1}, stderr=taking_nothing)
    assert await sidecar.ended() == 64


async def test_a_start_that_fails_with_everything_closed_has_its_exit_code(launch: Launch) -> None:
    sidecar = await launch((0, 1, 2), upstream={"nonsense": 1})
    assert await sidecar.ended() == 64


async def test_signals_that_mean_nothing_here_do_not_kill(launch: Launch) -> None:
    sidecar = await (await launch()).ready()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        sidecar.process.send_signal(number)
    assert await sidecar.works()
    assert await sidecar.ended_by(signal.SIGTERM) == 0


async def output_of(launch: Launch, **stdout: int) -> str:
    """What a sidecar writes on a terminal, or into a file, while it answers one request and ends."""
    reading, writing = stdout["reading"], stdout["writing"]
    sidecar = await (await launch(stdout=writing)).ready()
    assert await sidecar.works()
    assert await sidecar.ended_by(signal.SIGTERM) == 0
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        output = b""
        # A terminal whose other side is closed gives an error in the place of an end (EIO).
        with contextlib.suppress(OSError):
            while piece := file.read1():
                output += piece
    return output.decode().replace("\r\n", "\n")


async def test_on_a_terminal_the_log_is_short_and_coloured(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    reading, writing = os.openpty()

    lines = (await output_of(launch, reading=reading, writing=writing)).splitlines()

    assert all(line.startswith("\x1b[2m") for line in lines)
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line) and len(line) < 160 for line in plain)
    assert [line for line in plain if re.search(r" 200 GET /\S* \d+\.\dms \d+B upstream all ", line)]
    assert plain[-1].endswith(" INFO    drained")


async def test_elsewhere_the_log_is_json_without_colours(launch: Launch) -> None:
    reading, writing = os.pipe()

    output = await output_of(launch, reading=reading, writing=writing)

    assert "\x1b" not in output
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["status"] for line in lines if line["message"] == "request"] == [200]
    assert lines[-1]["message"] == "drained"
