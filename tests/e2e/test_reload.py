"""SIGHUP on the real process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ
from tests.support.running import ROUTE, SidecarProcess, config_text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import LaunchSidecar, StartOrigin


def rewrite(tmp_path: Path, text: str, sidecar: SidecarProcess) -> None:
    """Give the first process that was launched another configuration, and tell it."""
    (tmp_path / "sidecar0.yaml").write_text(text)
    sidecar.process.send_signal(signal.SIGHUP)


async def test_sighup_uses_the_file_as_it_is_now(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    old, new = await start_origin((READ, GATE, OK, AGAIN)), await start_origin()
    sidecar = await (await launch_sidecar(config_text(old))).ready()
    in_flight = await sidecar.connect()
    await in_flight.send(GOOD)
    await old.until(lambda seen: seen.requests)

    rewrite(tmp_path, config_text(new), sidecar)
    await sidecar.printed("was loaded: 1 route changed")

    assert await sidecar.is_well()
    assert (len(old.requests), len(new.requests)) == (1, 1)
    old.gate.set()
    assert (await in_flight.response()).status == 200
    assert (await sidecar.metrics()).total("sidecar_config_reloads_total", result="success") == 1
    sidecar.terminate()
    assert await sidecar.exit_code() == 0
    assert "Traceback" not in sidecar.output


async def test_sighup_with_a_broken_file_says_so_and_changes_nothing(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    origin = await start_origin()
    sidecar = await (await launch_sidecar(config_text(origin))).ready()

    rewrite(tmp_path, "upstreams: {a: {url: 17}}\n", sidecar)
    await sidecar.printed(r"is invalid and was not loaded: 1 error\b.*1:22")

    assert await sidecar.is_well()
    assert (await sidecar.api("GET", "/v1/routes"))["routes"][0]["name"] == ROUTE
    assert (await sidecar.metrics()).total("sidecar_config_last_reload_successful") == 0
    assert "Traceback" not in sidecar.output


async def test_sighup_tells_what_needs_a_restart(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> None:
    origin = await start_origin()
    sidecar = await (await launch_sidecar(config_text(origin))).ready()

    rewrite(tmp_path, config_text(origin, proxy={"via": "other"}), sidecar)

    await sidecar.printed('needs a restart: proxy.via"')
    assert (await sidecar.get()).get("via") == b"1.1 sidecar"
