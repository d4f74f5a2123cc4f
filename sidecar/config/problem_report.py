"""Problems as text with source line and caret, as JSON, and as GitHub workflow commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sidecar.config.document_text import lines
from sidecar.config.problem import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.config.problem import Problem

WIDEST = 120
"""Longer source lines are shown in part."""


def as_text(problems: Iterable[Problem], source: str, text: str) -> str:
    """`FILE:LINE:COL: error: message`, the source line, a caret and the hint, for each problem."""
    rows = lines(text)
    return "".join(f"{line}\n" for problem in problems for line in _text_lines(problem, source, rows))


def _text_lines(problem: Problem, source: str, rows: list[str]) -> Iterator[str]:
    yield f"{source}:{problem.line}:{problem.column}: {problem.severity.value}: {printable(problem.message)}"
    row = rows[problem.line - 1] if problem.line <= len(rows) else ""
    if row.strip():
        start = max(0, problem.column - WIDEST * 3 // 4)
        shown = row[start : start + WIDEST]
        before = shown[: problem.column - 1 - start]
        carets = "^" * max(1, min(problem.length, len(shown) - len(before)))
        yield f"    {printable(shown)}"
        yield f"    {''.join(char if char == TAB else ' ' * len(printable(char)) for char in before)}{carets}"
    if problem.hint:
        yield f"    hint: {printable(problem.hint)}"


TAB = "\t"


def printable(text: str) -> str:
    """`text` on one line and harmless to a terminal."""
    return "".join(char if char.isprintable() or char == TAB else repr(char)[1:-1] for char in text)


def as_json(problems: Iterable[Problem], source: str) -> str:
    """One JSON object: the file, whether it is usable, and its problems."""
    listed = [as_object(problem) for problem in problems]
    ok = all(each["severity"] != Severity.ERROR.value for each in listed)
    return json.dumps({"file": source, "ok": ok, "problems": listed}, indent=2) + "\n"


def as_object(problem: Problem) -> dict[str, object]:
    """One problem for JSON."""
    return {
        "severity": problem.severity.value,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
    }


def as_github(problems: Iterable[Problem], source: str) -> str:
    """Workflow commands, which GitHub shows at the line."""
    return "".join(
        f"::{problem.severity.value} file={_property(source)},line={problem.line},col={problem.column},"
        f"endColumn={problem.column + problem.length}"
        f"::{_data(problem.message + (f' ({problem.hint})' if problem.hint else ''))}\n"
        for problem in problems
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
