from __future__ import annotations

import pytest

from sidecar.core.wording import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 errors"), (1, "1 error"), (2, "2 errors")])
def test_what_is_counted_stands_in_the_right_number(number: int, said: str) -> None:
    assert counted(number, "error") == said
