from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters import doctor
from sidecar.adapters.config_file import load
from sidecar.adapters.doctor import Diagnosis, Level, examine

if TYPE_CHECKING:
    from pathlib import Path

TELEMETRY = "telemetry: {listen: '0.0.0.0:4102'}\n"
GOOD = "upstreams: {shop: {url: 'http://localhost:8080', cache: {mode: off}}}\n"


def examined(tmp_path: Path, text: str, *, grace_period: float = 30.0) -> dict[str, list[Diagnosis]]:
    """The findings by subject."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(text)
    found: dict[str, list[Diagnosis]] = {}
    for one in examine(load(file, {}), load(file, {}, look_at_files=False).config, grace_period):
        found.setdefault(one.subject, []).append(one)
    return found


def problems(found: dict[str, list[Diagnosis]]) -> set[str]:
    return {name for name, each in found.items() if any(one.level is Level.PROBLEM for one in each)}


def test_a_sound_configuration_has_no_problem(tmp_path: Path) -> None:
    assert problems(examined(tmp_path, GOOD + TELEMETRY)) == set()


@pytest.mark.parametrize("listen", ["127.0.0.1:4102", "'[::1]:4102'", "localhost:4102", "unix:/tmp/t.sock"])
def test_probes_that_cannot_come_in_are_named(tmp_path: Path, listen: str) -> None:
    found = examined(tmp_path, GOOD + f"telemetry: {{listen: {listen}}}\n")
    assert problems(found) == {"telemetry"}
    assert listen.strip("'") in found["telemetry"][0].message
    assert found["telemetry"][0].remedy == "write telemetry: {listen: 0.0.0.0:4102}"


def test_names_that_are_not_found_are_named_with_their_upstream(tmp_path: Path) -> None:
    text = GOOD.replace("localhost", "shop.invalid") + TELEMETRY
    (name,) = examined(tmp_path, text)["names"]
    assert name.level is Level.PROBLEM
    assert name.message.startswith("shop.invalid (upstream shop) is not found: ")


def test_a_missing_file_is_named_with_its_line_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    text = GOOD + TELEMETRY + "admin: {token_file: /nowhere/token}\n"
    found = examined(tmp_path, text)
    assert problems(found) == {"configuration"}
    (one,) = found["configuration"]
    assert "sidecar.yaml:3:21: token_file: '/nowhere/token' cannot be read" in one.message
    assert found["names"][0].level is Level.OK


def test_a_file_that_is_mounted_by_itself_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {tmp_path}/sidecar.yaml ro,noatime - ext4 /dev/root rw\n")
    monkeypatch.setattr(doctor, "MOUNTS", mounts)
    found = examined(tmp_path, GOOD + TELEMETRY)
    assert problems(found) == {"mount"}
    assert "subPath" in found["mount"][0].message


@pytest.mark.parametrize(("grace_period", "wrong"), [(29.0, {"grace period"}), (30.0, set()), (60.0, set())])
def test_the_grace_period_must_hold_the_drain(tmp_path: Path, grace_period: float, wrong: set[str]) -> None:
    assert problems(examined(tmp_path, GOOD + TELEMETRY, grace_period=grace_period)) == wrong


def test_a_state_dir_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert problems(examined(tmp_path, GOOD + TELEMETRY + f"state_dir: {tmp_path}/file/state\n")) == {"state_dir"}
    assert problems(examined(tmp_path, GOOD + TELEMETRY + f"state_dir: {tmp_path}/new/state\n")) == set()
    assert not (tmp_path / "new").exists()


def test_few_descriptors_are_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    (one,) = examined(tmp_path, GOOD + TELEMETRY)["file limit"]
    assert one.level is Level.ADVICE
    assert "1024 descriptors: 10000 clients" in one.message


@pytest.mark.parametrize(
    ("limit", "level"), [("100000000", Level.PROBLEM), ("200000000", Level.OK), ("max", None), ("", None)]
)
def test_the_memory_limit_must_hold_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, level: Level | None
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(doctor, "MEMORY_LIMITS", (tmp_path / "nowhere", tmp_path / "memory.max"))
    found = examined(tmp_path, GOOD + TELEMETRY).get("memory", [])
    assert [one.level for one in found] == ([] if level is None else [level])


def test_each_problem_says_how_to_mend_it(tmp_path: Path) -> None:
    text = GOOD.replace("localhost", "a.invalid") + "telemetry: {listen: '127.0.0.1:1'}\nadmin: {token_file: /no}\n"
    for each in examined(tmp_path, text, grace_period=1.0).values():
        assert all(one.remedy for one in each if one.level is not Level.OK)


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecar", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})


def test_the_command_exits_by_what_it_finds(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD + TELEMETRY)
    sound = run("-c", file)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "ok       telemetry" in sound.stdout

    file.write_text(GOOD.replace("localhost", "shop.invalid") + "telemetry: {listen: '127.0.0.1:4102'}\n")
    sick = run("-c", file, "--grace-period", "10s")
    assert sick.returncode == 1
    for word in ("127.0.0.1:4102", "shop.invalid", "grace period 10s", "mend: "):
        assert word in sick.stdout

    assert run("-c", file, "--grace-period", "soon").returncode == 64
    file.write_text("upstreams: [\n")
    assert run("-c", file).returncode == 1


def test_a_sound_finding_has_no_remedy() -> None:
    sound = Diagnosis(Level.OK, "names", "every name is found")
    assert list(doctor.as_lines([sound, replace(sound, remedy="do")]))[-1].strip() == "mend: do"
