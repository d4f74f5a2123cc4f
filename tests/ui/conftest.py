"""A real browser on the dashboard of a real sidecar before an origin that does what a test says."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

    Serve = Callable[..., "Dashboard"]
    Look = Callable[..., Page]

SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE = 15.0
LISTENS = re.compile(rb'"(proxy|admin) listens on 127\.0\.0\.1:(\d+)"')

expect.set_options(timeout=PATIENCE * 1000)


class Origin(http.server.ThreadingHTTPServer):
    """Answers everything with `status`."""

    daemon_threads = True
    status = 200

    class Answer(http.server.BaseHTTPRequestHandler):
        server: Origin

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            self.send_response(self.server.status)
            self.send_header("Cache-Control", "max-age=60")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Answer)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Dashboard:
    """`sidecar run`, and the questions that tests ask it without the page."""

    def __init__(self, file: Path, origin: Origin) -> None:
        self.origin = origin
        command = [sys.executable, "-m", "sidecar", "run", "-c", str(file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        ports = self._ports()
        self.proxy, self.url = (f"http://127.0.0.1:{ports[name]}" for name in (b"proxy", b"admin"))

    def _ports(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        assert self.process.stdout is not None
        while len(found) < 2:
            line = self.process.stdout.readline()
            assert line, "ended before it listened"
            found |= {name: int(port) for name, port in LISTENS.findall(line)}
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return found

    def get(self, path: str, *, times: int = 1, method: str = "GET") -> int:
        """The last status of some requests through the proxy."""
        status = 0
        for _ in range(times):
            try:
                request = urllib.request.Request(self.proxy + path, method=method)  # noqa: S310 - our own http URL
                with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - our own http URL
                    status = response.status
            except urllib.error.HTTPError as error:
                status = error.code
                error.close()
        return status

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:  # noqa: S310 - our own http URL
            return json.load(response)

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = shutil.which("chromium", path=os.environ["PATH"] + ":/usr/bin")
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Run a sidecar with the `names` as upstreams, all before one origin."""
    running: list[Dashboard] = []
    origin = Origin()

    def start(*names: str, admin: dict[str, str] | None = None, **breaker: object) -> Dashboard:
        settings = {"failure_threshold": 3, "open_duration": "30s", **breaker}
        config = {
            "proxy": {"listen": "127.0.0.1:0", "access_log": False},
            "admin": {"listen": "127.0.0.1:0", **(admin or {})},
            "telemetry": {"listen": "127.0.0.1:0"},
            "defaults": {"breaker": settings},
            "upstreams": {name: {"url": origin.url} for name in names},
        }
        file = tmp_path / "sidecar.yaml"
        file.write_text(json.dumps(config))
        running.append(Dashboard(file, origin))
        return running[-1]

    yield start
    for each in running:
        each.end()
    origin.end()


@pytest.fixture
def look(browser: Browser, serve: Serve) -> Iterator[Look]:  # noqa: ARG001 - a page leaves before its sidecar
    """Open the page; afterwards its console must have had nothing to tell, unless the test says otherwise."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def opened(dashboard: Dashboard, *, quiet: bool = True, **options: Any) -> Page:
        contexts.append(browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options}))
        page = contexts[-1].new_page()
        if quiet:
            page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        answer = page.goto(dashboard.url)
        assert answer is not None
        assert answer.status == 200
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    """Keep what the page looks like, for people."""

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return keep
