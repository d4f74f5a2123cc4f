"""What is wrong with a configuration, and exactly where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """An error keeps the configuration from being used; a warning is a likely mistake."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text: line and column count from 1 in characters; `length` is what a caret underlines."""

    line: int
    column: int
    length: int = 1


START = Position(1, 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `hint` says what to write instead, or is empty."""

    line: int
    column: int
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    length: int = 1


class Problems:
    """Collects findings, each once, up to `limit`; `failed` tells whether an error is among them."""

    __slots__ = ("_found", "failed", "limit")

    def __init__(self, limit: int = 200) -> None:
        self._found: dict[Problem, None] = {}
        self.limit = limit
        self.failed = False

    @property
    def full(self) -> bool:
        """Whether looking for more findings is pointless."""
        return len(self._found) >= self.limit

    def error(self, at: Position, message: str, hint: str = "") -> None:
        """Note an error at `at`."""
        self.failed = True
        self._add(Problem(at.line, at.column, message, hint, Severity.ERROR, at.length))

    def warning(self, at: Position, message: str, hint: str = "") -> None:
        """Note a likely mistake at `at`."""
        self._add(Problem(at.line, at.column, message, hint, Severity.WARNING, at.length))

    def _add(self, problem: Problem) -> None:
        if not self.full:
            self._found[problem] = None

    def listed(self) -> tuple[Problem, ...]:
        """Every finding in the order of the text; the last one says so when there may be more."""
        found = sorted(self._found, key=lambda problem: (problem.line, problem.column))
        if self.full:
            last = found[-1]
            found.append(Problem(last.line, last.column, f"only {self.limit} problems are shown; there may be more"))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a setting that is known by name rather than by line: `kind` is route, upstream, or empty for the
    whole configuration; `setting` is dotted."""

    kind: str
    name: str
    setting: str
    message: str
    hint: str
    severity: Severity = Severity.WARNING
