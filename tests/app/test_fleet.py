"""The fleet is joined where Redis is configured, and its client is loaded nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.running import config_text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import LaunchSidecar, StartSidecar

NOBODY = "redis://127.0.0.1:1"
WITHOUT_REDIS = """
import sys
class NoRedis:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoRedis())
from sidecar.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_redis(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_REDIS, "run", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_missing_client_is_told_with_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(config_text("http://127.0.0.1:1", top={"redis": {"url": NOBODY}}))
    done = run_without_redis(file)
    assert done.returncode == 1
    assert done.stderr.startswith("sidecar: `redis` is configured, but its client is not installed")
    assert "circuit-sidecar[redis]" in done.stderr


def test_a_sidecar_that_is_alone_loads_no_client() -> None:
    show = "import sys, sidecar.app, sidecar.cli; print(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert "uvloop" in done.stdout.split()
    assert {"redis", "hiredis"}.isdisjoint(done.stdout.split())


async def test_a_sidecar_that_is_alone_has_no_fleet_to_tell_of(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar("http://127.0.0.1:1")
    assert "fleet" not in await sidecar.api("GET", "/v1/circuits/all")
    assert {name for name, _ in (await sidecar.metrics()).samples if "redis" in name or "fleet" in name} == set()


async def test_a_pod_is_named_after_its_host_and_process_unless_it_has_a_name(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar("http://127.0.0.1:1", top={"redis": {"url": NOBODY}})
    assert sidecar.app is not None
    fleet = sidecar.app.data.fleet
    assert fleet is not None
    assert fleet.fleet.me.id.rpartition("-")[2].isdigit()
    named = await start_sidecar("http://127.0.0.1:1", top={"redis": {"url": NOBODY}, "fleet": {"pod_id": "pod-7"}})
    assert (await named.api("GET", "/v1/circuits/all"))["fleet"]["members"][0]["id"] == "pod-7"
    (shown,) = (await named.api("GET", "/v1/circuits"))["circuits"]
    assert shown["fleet"]["fresh"] is False


async def test_a_process_says_once_for_each_of_its_clients_that_redis_is_not_there(
    launch_sidecar: LaunchSidecar,
) -> None:
    process = await (await launch_sidecar(config_text("http://127.0.0.1:1", top={"redis": {"url": NOBODY}}))).ready()
    await process.printed("Redis fails")
    process.terminate()
    assert await process.exit_code() == 0
    lines = [json.loads(line) for line in process.output.splitlines() if "Redis fails" in line]
    assert {line["redis_error"] for line in lines} == {"connection"}
    assert 1 <= len(lines) == len({line["message"] for line in lines}) <= 2
