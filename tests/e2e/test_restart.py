"""What a real process finds again of the one before it (breaker.md 23, cache.md 27)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.origin import AGAIN, READ, READ_HEAD, RESET, RawOrigin
from tests.support.running import ROUTE, config_text
from tests.support.wire import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import LaunchSidecar, StartOrigin

CACHEABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 5\r\n\r\nfresh"
FORCED = {"mode": "forced_open", "reason": "deploy", "actor": "ann", "ttl": "1h"}


def text(origin: RawOrigin, state: Path) -> str:
    breaker = {"failure_threshold": 1, "open_duration": "1h", "backoff": {"max": "1h"}}
    upstream: dict[str, Any] = {"breaker": breaker, "cache": {"mode": "standard"}}
    return config_text(origin, upstream=upstream, top={"state_dir": str(state)})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def test_overrides_survive_a_kill(start_origin: StartOrigin, launch_sidecar: LaunchSidecar, state: Path) -> None:
    config = text(await start_origin(), state)
    first = await (await launch_sidecar(config)).ready()
    await first.api("PUT", f"/v1/circuits/{ROUTE}/override", FORCED)
    file = state / "circuits.json"
    await eventually(lambda: file.exists() and "forced_open" in file.read_text())
    first.process.kill()
    await first.exit_code()

    second = await (await launch_sidecar(config)).ready()

    shown = await second.api("GET", f"/v1/circuits/{ROUTE}")
    assert (shown["effective_state"], shown["override"]["actor"]) == ("forced_open", "ann")
    assert (await second.get()).status == 503


async def test_open_circuits_and_stored_answers_survive_a_stop(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, state: Path
) -> None:
    origin = await start_origin((READ, CACHEABLE, AGAIN))
    config = text(origin, state)
    first = await (await launch_sidecar(config)).ready()
    assert (await first.get("/item")).body == b"fresh"
    origin.then((READ_HEAD, RESET))
    for connection in origin.connections:
        connection.transport.abort()
    assert (await first.get("/unknown")).status == 502
    asked = len(origin.requests)
    first.terminate()
    assert await first.exit_code() == 0

    second = await (await launch_sidecar(config)).ready()

    stored = await second.get("/item")
    assert (stored.status, stored.body) == (200, b"fresh")
    assert int(stored.get("age") or -1) >= 0
    refused = await second.get("/unknown")
    assert (refused.status, refused.get("proxy-status")) == (
        503,
        b"sidecar; error=destination_unavailable",
    )
    assert int(refused.get("retry-after") or 0) > 60
    assert len(origin.requests) == asked
    assert "restored" in second.output
    assert "Traceback" not in first.output + second.output


async def test_a_state_dir_that_cannot_be_used_ends_the_start_with_one_line(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    sidecar = await launch_sidecar(text(await start_origin(), tmp_path / "file" / "state"))

    assert await sidecar.exit_code() == 1
    assert sidecar.output.splitlines() == [f"sidecar: state_dir {tmp_path}/file/state cannot be used: Not a directory"]


async def test_files_that_are_missing_are_errors_of_the_configuration(launch_sidecar: LaunchSidecar) -> None:
    config = config_text("https://127.0.0.1:9", upstream={"tls": {"ca_file": "/nowhere/ca.pem"}})
    sidecar = await launch_sidecar(config)

    assert await sidecar.exit_code() == 64
    assert "error: ca_file: '/nowhere/ca.pem' cannot be read: No such file or directory" in sidecar.output


async def test_tls_files_without_a_certificate_are_errors_of_the_configuration(launch_sidecar: LaunchSidecar) -> None:
    config = config_text("https://127.0.0.1:9", upstream={"tls": {"ca_file": __file__}})
    sidecar = await launch_sidecar(config)

    assert await sidecar.exit_code() == 64
    assert f"error: ca_file: '{__file__}' holds no certificate" in sidecar.output
