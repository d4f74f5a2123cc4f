"""The commands of pip in the files of the repository, and whether what they install depends on a registry."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.support.repository import ROOT

LOCKS = {path.name for path in ROOT.glob("*.lock")}
PIP = re.compile(
    r"(?P<pip>[\w./$(){}-]*\bpip[\d.]*)[ ]"
    r"(?P<arguments>(?:--?\w[^;&|`\n]* )?(?:install|wheel|download|check)\b[^;&|`\n]*)"
)
"""A command of pip, up to what ends it in a shell or in prose; `uv pip` has the same words."""


@dataclass(frozen=True)
class Command:
    """What a command of pip does to which environment."""

    text: str
    environment: str
    given: argparse.Namespace

    @classmethod
    def parse(cls, text: str, pip: str, arguments: str) -> Command:
        given = PARSER.parse_intermixed_args(shlex.split(arguments))
        return cls(text, given.python or pip, given)

    @property
    def is_check(self) -> bool:
        return bool(self.given.verb == "check")

    @property
    def installs(self) -> bool:
        return self.given.verb == "install" and not self.given.dry_run

    @property
    def is_immune(self) -> bool:
        """Whether no registry has a say in what it installs."""
        given = self.given
        if given.dry_run:
            return True
        if not given.no_deps:
            return False
        if given.requirement:
            locked = {Path(name).name for name in given.requirement} <= LOCKS
            return locked and given.require_hashes and given.only_binary == ":all:" and not self._targets
        built = [target for target in self._targets if not target.endswith(".whl")]
        return all(target.startswith((".", "/")) for target in self._targets) and (
            given.no_build_isolation or not built
        )

    @property
    def _targets(self) -> list[str]:
        return [*self.given.targets, *(self.given.editable or ())]


class Parser(argparse.ArgumentParser):
    """Raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parser() -> Parser:
    """The options of pip that are used here; an unknown one is an error, and wants a thought about what it does."""
    made = Parser()
    for flag in ("--quiet", "--no-deps", "--require-hashes", "--no-build-isolation", "--no-compile"):
        made.add_argument(flag, action="store_true")
    for flag in ("--dry-run", "--system-certs"):
        made.add_argument(flag, action="store_true")
    for option in ("--python", "--only-binary", "--wheel-dir", "--target", "--python-version", "--python-platform"):
        made.add_argument(option)
    made.add_argument("-r", "--requirement", action="append")
    made.add_argument("-e", "--editable", action="append")
    made.add_argument("verb")
    made.add_argument("targets", nargs="*")
    return made


PARSER = parser()


def commands(text: str) -> list[Command]:
    """Every command of pip in a Makefile, a Dockerfile, a script or a document."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for _ in range(3):
        joined = re.sub(r"\$\((\w+)\)", lambda found: makefile_variables().get(found[1], found[0]), joined)
    return [
        Command.parse(found[0], found["pip"], found["arguments"])
        for line in joined.splitlines()
        for found in PIP.finditer(re.sub(r"(\S+) -m pip\b", r"\1/pip", line))
    ]


def makefile_variables() -> dict[str, str]:
    return dict(re.findall(r"^(\w+) :?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
