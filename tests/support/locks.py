"""Lock files, and what the packages in them ask for."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import TYPE_CHECKING

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Entry:
    """One locked version: `name[extras]==version ; marker`, and its hashes."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (pin,) = self.requirement.specifier
        assert pin.operator == "=="
        return pin.version

    def applies(self, environment: Mapping[str, str]) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(environment)


def here() -> dict[str, str]:
    """The present environment, in the words of markers (PEP 508)."""
    return {name: str(value) for name, value in default_environment().items()}


def entries(lock: str) -> list[Entry]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        found.append(Entry(Requirement(requirement), tuple(hashes)))
    return found


@functools.cache
def asked_by(entry: Entry) -> list[Requirement]:
    """What a locked package, as it is installed here, asks for with the extras that are locked of it."""
    found = distribution(entry.name)
    assert found.version == entry.version, f"{entry.name} is not installed as locked: run make install"
    return [Requirement(need) for need in found.requires or ()]


def wanted(requirement: Requirement, extras: Iterable[str], environment: Mapping[str, str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))


def unmet(locked: list[Entry], roots: list[str], environment: Mapping[str, str]) -> set[str]:
    """What is asked for in `environment`, by the project or by a locked package, and not locked: name, version, extras.

    A package that is locked for other environments than the present one is not here to be asked; the tests under that
    Python ask it.
    """
    there = {entry.name: entry for entry in locked if entry.applies(environment)}
    needs = [need for root in roots if wanted(need := Requirement(root), (), environment)]
    for entry in there.values():
        if entry.applies(here()):
            needs += [need for need in asked_by(entry) if wanted(need, entry.requirement.extras, environment)]
    return {str(need) for need in needs if not is_met(need, there)}


def is_met(need: Requirement, there: dict[str, Entry]) -> bool:
    entry = there.get(canonicalize_name(need.name))
    return (
        entry is not None
        and need.specifier.contains(entry.version, prereleases=True)
        and need.extras <= entry.requirement.extras
    )
