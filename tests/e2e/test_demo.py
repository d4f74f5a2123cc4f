"""`sidecar demo` shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from sidecar.adapters.config_file import load
from sidecar.adapters.demo_origin import Schedule
from sidecar.demo.outage import Ports, available, demo_config, introduction
from tests.support.demo import BRIEFLY_HEALTHY, DEMO, Demo
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Demo]:
    demo = await Demo.start(*command)
    try:
        yield demo
    finally:
        await demo.stop()


async def fetch(url: str) -> tuple[int, dict[str, str], Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, dict(response.headers), await response.json(content_type=None)


async def test_shows_a_stale_answer_and_a_refusal_once_the_origin_fails() -> None:
    async with running(*DEMO, BRIEFLY_HEALTHY) as demo:
        await demo.ready()
        status, headers, body = await fetch(f"{demo.proxy}/catalog/items/1")
        assert (status, body["path"]) == (200, "/items/1")
        assert "hit" not in headers["Cache-Status"]

        await demo.printed("circuit orders: closed .* open")
        status, headers, _ = await fetch(f"{demo.proxy}/catalog/items/1")
        assert status == 200
        assert headers["Cache-Status"].startswith("sidecar; hit")
        assert int(headers["Age"]) >= 0

        status, headers, problem = await fetch(f"{demo.proxy}/orders/1")
        assert (status, problem["reason"]) == (503, "circuit_open")
        assert int(headers["Retry-After"]) >= 1

        _, _, circuits = await fetch(f"{demo.admin}/v1/circuits")
        assert "open" in str(circuits)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_ends_with_its_companions_on_a_signal(number: signal.Signals) -> None:
    async with running(*DEMO, BRIEFLY_HEALTHY) as demo:
        await demo.ready()
        companions = children(demo.process.pid)
        assert len(companions) == 2
        demo.process.send_signal(number)
        assert await demo.process.wait() == 0
        await eventually(lambda: not any(is_alive(pid) for pid in companions))


async def test_the_command_runs_it_with_nothing_to_configure() -> None:
    async with running(sys.executable, "-m", "sidecar", "demo") as demo:
        await demo.ready()
        demo.process.send_signal(signal.SIGTERM)
        assert await demo.process.wait() == 0


def test_a_port_in_use_is_replaced_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = available(Ports(port, 0, 0))
    assert ports.proxy != port
    assert len({ports.proxy, ports.admin, ports.telemetry}) == 3
    reason = os.strerror(errno.EADDRINUSE)
    said = f"sidecar demo: port {port} cannot be had ({reason}); using {ports.proxy} instead\n"
    assert capsys.readouterr().err == said


def test_its_configuration_is_without_errors_and_warnings(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(demo_config(Ports(), 8080))
    assert list(load(file, {}).problems) == []


def test_the_introduction_names_every_port_it_uses() -> None:
    text = introduction(Ports(1, 2, 3), 4, Schedule())
    for place in ("127.0.0.1:1/catalog/", "127.0.0.1:1/orders/", "127.0.0.1:2/v1/circuits", "127.0.0.1:3/metrics"):
        assert place in text


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
