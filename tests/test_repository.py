"""What holds for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from sidecar import __version__
from tests.support.repository import ROOT, files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = {"aiohttp", "httptools", "prometheus-client", "pyyaml", "uvloop"}
PLACES = (
    r"(?<![\w.])/(?:root|home/\w+|work|Users)/",
    r"\bpypi\." + "org",
    "pythonhosted" + r"\.org",
    "npmjs" + r"\.org",
    "deb\\." + "debian",
)
"""Directories of some machine, and package registries: what is here must not depend on any."""


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


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_the_scripts_of_ci_are_sound_and_executable(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_ci_runs_what_the_readme_tells_a_user_to_and_ends_with_the_summary_of_pytest() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
    dry = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *before, last = dry.stdout.replace("\\\n", "").splitlines()
    assert "-m pytest" in last
    for check in ("ruff format --check", "ruff check", "mypy", "lint-imports"):
        assert any(check in line for line in before), check


@pytest.mark.parametrize(
    "target", ["install", "run", "test", "check", "bench", "bench-fleet", "fuzz", "soak", "lock", "clean", "help"]
)
def test_the_makefile_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_no_test_is_skipped_or_excused() -> None:
    excuses = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")
    excused = [path.name for path in (ROOT / "tests").rglob("*.py") if excuses.search(path.read_text())]
    assert [name for name in excused if name != Path(__file__).name] == []
