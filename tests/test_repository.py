"""What holds for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from sidecar import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = {"aiohttp", "httptools", "prometheus-client", "pyyaml", "uvloop"}
LOCKS = sorted(ROOT.glob("*.lock"))
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)
PLACES = (
    r"(?<![\w.])/(?:root|home/\w+|work|Users)/",
    r"\bpypi\." + "org",
    "pythonhosted" + r"\.org",
    "npmjs" + r"\.org",
    "deb\\." + "debian",
)
"""Directories of some machine, and package registries: what is here must not depend on any."""


def files() -> list[Path]:
    """Every file of the repository, also those that are new."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def pins(lock: Path) -> dict[str, str]:
    return dict(PINNED.findall(lock.read_text()))


def modules() -> list[Path]:
    return [path for path in sorted((ROOT / "sidecar").rglob("*.py")) if path.read_text().strip()]


def test_no_file_names_a_place_that_others_do_not_have() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {hit[0]}"
        for path in files()
        for hit in re.finditer("|".join(PLACES), path.read_text(errors="replace"))
    }
    assert found == set()


def test_the_runtime_needs_five_libraries() -> None:
    assert {re.split(r"[^a-z-]", requirement)[0] for requirement in PROJECT["dependencies"]} == RUNTIME
    assert pins(ROOT / "requirements.lock").keys() >= RUNTIME


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_version_has_hashes_and_none_says_where_to_get_it(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert all(re.match(r"[a-z0-9-]+==\S+ \\$|    --hash=sha256:[0-9a-f]{64}( \\)?$|$", line) for line in lines)
    for block in PINNED.split("\n".join(lines))[3::3]:
        assert "--hash" in block


def test_tests_run_with_the_versions_that_are_released() -> None:
    runtime, development = (pins(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert runtime.items() <= development.items()


def test_every_library_that_the_tests_ask_for_is_locked() -> None:
    asked = [*PROJECT["optional-dependencies"]["test"], *PROJECT["optional-dependencies"]["bench"]]
    names = {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in asked}
    assert names <= pins(ROOT / "requirements-dev.lock").keys()


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_the_scripts_of_ci_are_sound_and_executable(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize("target", ["run", "test", "check", "bench", "fuzz", "soak", "lock", "clean", "help"])
def test_the_makefile_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_no_test_is_skipped_or_excused() -> None:
    excuses = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")
    excused = [path.name for path in (ROOT / "tests").rglob("*.py") if excuses.search(path.read_text())]
    assert [name for name in excused if name != Path(__file__).name] == []
