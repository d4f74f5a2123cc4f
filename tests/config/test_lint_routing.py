import pytest

from sidecar.config.lint_routing import backtracks


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(a*)*", "(.*,)*x", "(?:a+b?)+$", "((a+)b)*", r"(\d{1,9}x?)*", "(a+){2,}", "(?P<n>a+)+", "([a-z]+)*"],
)
def test_a_repeated_group_that_repeats_is_risky(pattern: str) -> None:
    assert backtracks(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/a+/b*",
        "(a|b)+",
        "(abc)*",
        r"(\+)+",
        "([+*])+",
        "([]+])*",
        "(a+)",
        "(a+)b+",
        r"\(a+\)+",
        "(a{3})+",
        "^/v[0-9]+/(x|y)$",
        "(",
        ")",
        "[",
        ")+",
    ],
)
def test_other_patterns_are_not_blamed(pattern: str) -> None:
    assert not backtracks(pattern)
