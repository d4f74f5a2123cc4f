import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.adapters.healthcheck import not_ready, not_ready_at
from sidecar.core.config import Address


def application(status: int) -> web.Application:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="draining\n")

    app = web.Application()
    app.router.add_get("/readyz", answer)
    return app


@pytest.mark.parametrize(("status", "reason"), [(200, None), (503, "503 draining")])
async def test_the_answer_of_readyz_decides(status: int, reason: str | None, tmp_path: Path) -> None:
    runner = web.AppRunner(application(status))
    await runner.setup()
    path = str(tmp_path / "t.sock")
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await web.UnixSite(runner, path).start()
        port = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}/readyz"
        for address, asked in (
            (Address("127.0.0.1", port), url),
            (Address("0.0.0.0", port), url),
            (Address(unix_path=path), f"unix:{path} for /readyz"),
        ):
            told = None if reason is None else f"{reason} (asked {asked})"
            assert await asyncio.to_thread(not_ready_at, address) == told
        told = None if reason is None else f"{reason} (asked {url})"
        assert await asyncio.to_thread(not_ready, f"http://127.0.0.1:{port}") == told
        elsewhere = f"http://127.0.0.1:{port}/nowhere?x=1"
        assert await asyncio.to_thread(not_ready, elsewhere) == f"404 404: Not Found (asked {elsewhere})"
    finally:
        await runner.cleanup()


def test_nobody_listening_is_not_ready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in (not_ready_at(Address("127.0.0.1", port)) or "")
    assert not_ready_at(Address(unix_path=str(tmp_path / "none.sock"))) is not None


def test_a_listener_that_never_answers_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reason = not_ready_at(Address("127.0.0.1", port), timeout=0.05)
        assert reason == f"timed out (asked http://127.0.0.1:{port}/readyz)"


@pytest.mark.parametrize("url", ["", "localhost:4102", "https://localhost", "http://", "http://localhost:port"])
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        not_ready(url)
