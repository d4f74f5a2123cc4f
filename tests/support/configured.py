"""A sidecar in this process that was started from a file, which a test may rewrite."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from sidecar.adapters.config_file import load
from sidecar.app import RealClock, build
from tests.support.running import InProcess

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.adapters.logs import LineSink
    from sidecar.app import App
    from sidecar.config.change import Reviewed
    from sidecar.core.config import Config

LISTENERS = {name: {"listen": "127.0.0.1:0"} for name in ("proxy", "admin", "telemetry")}


class KeptLines:
    """A `LineSink` that keeps the lines of the access log."""

    dropped = 0
    terminal = False

    def __init__(self) -> None:
        self.text = b""

    def write(self, batch: bytes, lines: int) -> None:  # noqa: ARG002 - the port's signature
        self.text += batch

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


def written(upstreams: dict[str, Any], *, routes: list[dict[str, Any]] | None = None, **top: Any) -> str:
    """A configuration (JSON is YAML) whose listeners take free ports unless `top` says otherwise, and in which retries
    are off unless an upstream has some.
    """
    config = {**LISTENERS, **top, "upstreams": {name: {"retry": None, **block} for name, block in upstreams.items()}}
    return json.dumps(config if routes is None else {**config, "routes": routes}, indent=1)


def loaded_from(file: Path, text: str) -> Config:
    """Write `text` into `file` and load it."""
    file.write_text(text)
    loaded = load(file, {})
    assert loaded.config is not None, loaded.problems
    return loaded.config


@dataclass
class Configured(InProcess):
    """`file` is what it was started from."""

    file: Path | None = None

    @classmethod
    async def begin(cls, file: Path, text: str, sink: LineSink | None = None) -> Configured:
        app = build(loaded_from(file, text), RealClock(), sink)
        await app.start()
        return cls(app.addresses, app=app, file=file)

    @property
    def running(self) -> App:
        assert self.app is not None
        return self.app

    def write(self, text: str) -> None:
        assert self.file is not None
        self.file.write_text(text)

    async def reload(self, text: str) -> Reviewed:
        """Rewrite the file and reload it."""
        self.write(text)
        return await self.running.control.reloader.reload()

    async def call(self, method: str, path: str, body: object = None, listener: str = "admin") -> tuple[int, Any]:
        """Status and content of an answer, whatever it is: JSON values, or a text."""
        host, port = self.addresses[listener][0]
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{host}:{port}{path}", json=body) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def state_of(self, circuit: str) -> str:
        """The effective state that the API shows."""
        status, shown = await self.call("GET", f"/v1/circuits/{circuit}")
        assert status == 200, shown
        return str(shown["effective_state"])
