import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.problem import Position, Problem, Problems, Severity
from sidecar.config.problem_report import as_github, as_json, as_text

TEXT = "proxy:\n\tlisten: here\n"
ERROR = Problem(2, 10, "no port", "write host:port", length=4)
WARNING = Problem(1, 1, "50% of a, b: odd", severity=Severity.WARNING)


def test_text_shows_the_line_a_caret_and_the_hint() -> None:
    assert as_text([ERROR, WARNING], "f.yaml", TEXT) == (
        "f.yaml:2:10: error: no port\n"
        "    \tlisten: here\n"
        "    \t        ^^^^\n"
        "    hint: write host:port\n"
        "f.yaml:1:1: warning: 50% of a, b: odd\n"
        "    proxy:\n"
        "    ^\n"
    )


def test_a_long_line_is_shown_around_the_place() -> None:
    shown = as_text([Problem(1, 5001, "here", length=2)], "f", "a" * 5000 + "XY" + "b" * 5000).splitlines()
    assert len(shown[1]) < 130
    assert shown[1][shown[2].index("^") :].startswith("XY")


def test_a_terminal_never_sees_control_characters() -> None:
    shown = as_text([Problem(1, 3, "bad \x1b[31m", "hint\r\nmore")], "f", "a: \x1b[31m\x85x")
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown


def test_json_says_whether_the_file_is_usable() -> None:
    report = json.loads(as_json([ERROR, WARNING], "f.yaml"))
    assert report["ok"] is False
    assert report["problems"][0] == {
        "severity": "error",
        "line": 2,
        "column": 10,
        "message": "no port",
        "hint": "write host:port",
    }
    assert json.loads(as_json([WARNING], "f.yaml"))["ok"] is True


def test_github_commands_are_escaped() -> None:
    assert as_github([ERROR, WARNING], "a,b:c.yaml") == (
        "::error file=a%2Cb%3Ac.yaml,line=2,col=10,endColumn=14::no port (write host:port)\n"
        "::warning file=a%2Cb%3Ac.yaml,line=1,col=1,endColumn=2::50%25 of a, b: odd\n"
    )


@given(st.text(), st.integers(1, 20), st.integers(1, 200), st.integers(1, 300))
def test_any_place_in_any_text_can_be_shown(text: str, line: int, column: int, length: int) -> None:
    assert as_text([Problem(line, column, text, text, length=length)], "f", text)


def test_problems_are_listed_once_and_in_order_up_to_a_limit() -> None:
    problems = Problems(limit=2)
    problems.warning(Position(2, 1), "b")
    problems.warning(Position(2, 1), "b")
    assert (problems.failed, problems.full) == (False, False)
    problems.error(Position(1, 1), "a")
    problems.error(Position(3, 1), "c")
    assert (problems.failed, problems.full) == (True, True)
    assert [each.message for each in problems.listed()] == ["a", "b", "only 2 problems are shown; there may be more"]
