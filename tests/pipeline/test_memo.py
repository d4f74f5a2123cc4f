from __future__ import annotations

import pytest

from sidecar.pipeline.memo import LARGEST, MOST, Memo


def test_what_was_read_is_known_by_exactly_its_octets() -> None:
    memo: Memo[str] = Memo()
    memo.add(b"GET / HTTP/1.1", "first")
    assert memo.get(b"GET / HTTP/1.1") == "first"
    assert memo.get(b"GET / http/1.1") is None
    memo.add(b"GET / HTTP/1.1", "second")
    assert memo.get(b"GET / HTTP/1.1") == "second"


@pytest.mark.parametrize(("size", "known"), [(LARGEST, True), (LARGEST + 1, False)], ids=["largest", "larger"])
def test_what_is_too_large_is_not_kept(size: int, *, known: bool) -> None:
    memo: Memo[int] = Memo()
    memo.add(bytes(size), 1)
    assert (memo.get(bytes(size)) == 1) is known


def test_those_who_never_repeat_themselves_fill_it_no_further() -> None:
    memo: Memo[int] = Memo()
    for number in range(10 * MOST):
        memo.add(b"%d" % number, number)
        assert memo.get(b"%d" % number) == number
        assert len(memo._known) <= MOST
