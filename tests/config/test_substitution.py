from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.substitution import SubstitutionFailed, substitute

ENVIRON = {"HOST": "catalog", "EMPTY": "", "TRICKY": "${HOST}: {a: b}"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain $ and $HOST and {}", "plain $ and $HOST and {}"),
        ("http://${HOST}:80", "http://catalog:80"),
        ("${HOST}${HOST}", "catalogcatalog"),
        ("${EMPTY}", ""),
        ("${EMPTY:-other}", "other"),
        ("${MISSING:-}", ""),
        ("${MISSING:-a:b?c-d}", "a:b?c-d"),
        ("${HOST:-other}", "catalog"),
        ("${HOST:?must be set}", "catalog"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$$x", "$$x"),
        ("${TRICKY}", "${HOST}: {a: b}"),
    ],
)
def test_references_are_replaced_once(text: str, result: str) -> None:
    assert substitute(text, ENVIRON) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING}", "the environment variable MISSING is not set"),
        ("${MISSING:?give me a host}", "MISSING: give me a host"),
        ("${EMPTY:?}", "EMPTY: not set"),
        ("${}", "not a variable reference"),
        ("${1A}", "not a variable reference"),
        ("${HOST", "not a variable reference"),
        ("${HOST-other}", "not a variable reference"),
        ("${A:-${B}}", "not a variable reference"),
    ],
)
def test_a_reference_without_a_value_fails(text: str, message: str) -> None:
    with pytest.raises(SubstitutionFailed, match=message.replace("$", r"\$")):
        substitute(text, ENVIRON)


@given(st.text(alphabet="${}:-?AB ", max_size=30))
def test_arbitrary_text_is_replaced_or_refused(text: str) -> None:
    with suppress(SubstitutionFailed):
        substitute(text, {"A": "1", "B": ""})
