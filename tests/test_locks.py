"""An installation is what the lock files say, whatever a registry has published since."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from tests.support.locks import Entry, entries, here, is_met, unmet
from tests.support.pip_commands import Command, commands, makefile_variables
from tests.support.repository import ROOT, files

if TYPE_CHECKING:
    from collections.abc import Iterator

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", name)]
MACHINES = ("x86_64", "aarch64")
EXTRAS = PROJECT["optional-dependencies"]
ASKED: dict[str, list[str]] = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-redis.lock": [*PROJECT["dependencies"], *EXTRAS["redis"]],
    "requirements-build.lock": PYPROJECT["build-system"]["requires"],
    "requirements-dev.lock": [*PROJECT["dependencies"], *(need for extra in EXTRAS.values() for need in extra)],
    "requirements-resolver.lock": PYPROJECT["dependency-groups"]["resolver"],
}
"""What each lock file was resolved from."""
LEFT_OUT = re.compile(r"^tests/|^CHANGELOG|\.lock$")
"""Files without a command of pip that anybody would run."""
INSTALLED = sorted(ASKED.keys() - {"requirements-resolver.lock"})
"""The lock files whose packages are in the environment of the tests, where their metadata can be read."""


def environments() -> Iterator[dict[str, str]]:
    """Where the lock files are installed: every supported Python on every machine that wheels are looked up for."""
    for python in PYTHONS:
        for machine in MACHINES:
            yield {
                **here(),
                "python_version": python,
                "python_full_version": f"{python}.1",
                "implementation_version": f"{python}.1",
                "platform_machine": machine,
            }


def test_it_is_known_of_every_lock_file_what_it_was_resolved_from() -> None:
    assert {path.name for path in ROOT.glob("*.lock")} == ASKED.keys()


@pytest.mark.parametrize("lock", ASKED)
def test_every_locked_version_has_hashes(lock: str) -> None:
    locked = entries(lock)
    assert locked
    for entry in locked:
        assert entry.version
        assert entry.hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in entry.hashes), entry.name


@pytest.mark.parametrize("lock", INSTALLED)
def test_a_lock_file_is_a_whole_closure_for_every_python(lock: str) -> None:
    locked = entries(lock)
    for environment in environments():
        assert unmet(locked, ASKED[lock], environment) == set(), environment["python_version"]


def test_the_resolver_is_one_program_that_needs_nothing() -> None:
    assert [entry.name for entry in entries("requirements-resolver.lock")] == ["uv"]


@pytest.mark.parametrize(
    ("package", "instead", "noticed"),
    [
        ("iniconfig", None, "iniconfig"),
        ("coverage", "coverage=={version}", "coverage[toml]"),
        ("pytest", "pytest=={version} ; sys_platform == 'win32'", "pytest"),
    ],
)
def test_a_missing_entry_or_extra_is_noticed(package: str, instead: str | None, noticed: str) -> None:
    locked = {entry.name: entry for entry in entries("requirements-dev.lock")}
    whole = locked.pop(package)
    if instead is not None:
        locked[package] = replace(whole, requirement=Requirement(instead.format(version=whole.version)))
    found = unmet([*locked.values()], ASKED["requirements-dev.lock"], here())
    assert {re.split(r"[<>=!~;]", need)[0] for need in found} == {noticed}


@pytest.mark.parametrize(
    ("need", "met"),
    [("yarl", True), ("YARL>=1.17,<2.0", True), ("yarl>=1.18", False), ("yarl<1.17", False), ("yarl[x]", False)],
)
def test_a_locked_version_that_is_not_what_is_asked_for_is_noticed(need: str, met: bool) -> None:  # noqa: FBT001 - a column
    assert is_met(Requirement(need), {"yarl": Entry(Requirement("yarl==1.17"), ())}) is met


def test_tests_run_with_the_versions_that_are_released() -> None:
    runtime, development = (
        {entry.name: entry.version for entry in entries(lock)}
        for lock in ("requirements-redis.lock", "requirements-dev.lock")
    )
    assert runtime.items() <= development.items()


def test_a_fleet_changes_no_version_of_what_a_lone_sidecar_has() -> None:
    alone, shared = (
        {entry.name: entry.version for entry in entries(lock)}
        for lock in ("requirements.lock", "requirements-redis.lock")
    )
    assert alone.items() < shared.items()


def test_the_makefile_resolves_for_what_is_supported() -> None:
    assert makefile_variables()["PYTHONS"].split() == PYTHONS
    assert tuple(makefile_variables()["MACHINES"].split()) == MACHINES
    assert makefile_variables()["EXTRAS"].split() == list(EXTRAS)


@functools.cache
def recipes() -> dict[str, list[Command]]:
    """The commands of pip that belong together: those of a rule of the Makefile, or of any other file."""
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(errors="replace") for path in files()}
    rules = re.split(r"\n(?=[^#\s][^\n=]*:(?!=))", texts.pop("Makefile"))
    texts |= {f"Makefile: {rule.partition(':')[0]}": rule for rule in rules}
    found = {name: commands(text) for name, text in texts.items() if not LEFT_OUT.search(name)}
    return {name: those for name, those in found.items() if those}


def test_every_place_that_installs_is_found() -> None:
    assert recipes().keys() == {
        "Dockerfile",
        "Makefile: lock",
        "Makefile: .venv/runtime",
        "Makefile: .venv/development",
    }


@pytest.mark.parametrize(("name", "those"), recipes().items(), ids=recipes())
def test_no_registry_has_a_say_in_what_is_installed(name: str, those: list[Command]) -> None:
    assert [command.text for command in those if not command.is_check and not command.is_immune] == [], name


@pytest.mark.parametrize(("name", "those"), recipes().items(), ids=recipes())
def test_what_was_installed_is_checked_for_being_whole(name: str, those: list[Command]) -> None:
    changed: set[str] = set()
    for command in those:
        if command.is_check:
            changed.discard(command.environment)
        elif command.installs:
            changed.add(command.environment)
    assert changed == set(), name


@pytest.mark.parametrize(
    "text",
    [
        "pip install .",
        "pip install --no-deps .",
        "pip install --no-deps 'pip-tools>=7.5'",
        "pip install --require-hashes -r requirements.lock",
        "pip install --no-deps -r requirements.lock",
        "pip install --no-deps --require-hashes -r requirements.lock",
        "pip install --no-deps --require-hashes --only-binary :all: -r requirements.txt",
        "pip install --no-deps --require-hashes --only-binary :all: -r requirements.lock ruff",
        "python -m pip install --quiet --no-build-isolation --editable '.[fuzz]'",
        ".venv/bin/pip3 --quiet install ruff",
        "uv pip install --quiet -r requirements.lock",
        "build/bin/pip --python /opt/x/bin/python \\\n    install --no-deps ruff",
    ],
)
def test_a_command_that_asks_a_registry_is_noticed(text: str) -> None:
    (command,) = commands(text)
    assert not command.is_immune
