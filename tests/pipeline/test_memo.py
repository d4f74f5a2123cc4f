from __future__ import annotations

import pytest

from sidecar.pipeline.memo import LARGEST, MOST, PLACES, Memo


def test_what_was_read_is_known_by_exactly_its_octets() -> None:
    memo: Memo[str] = Memo()
    memo.add(b"GET / HTTP/1.1", "first")
    assert memo.get(b"GET / HTTP/1.1") == "first"
    assert memo.get(b"GET / http/1.1") is None
    memo.add(b"GET / HTTP/1.1", "second")
    assert memo.get(b"GET / HTTP/1.1") == "second"


def test_what_comes_a_second_time_recurs() -> None:
    memo: Memo[str] = Memo()
    assert [memo.recurs(octets) for octets in (b"one", b"two", b"one", b"one")] == [False, False, True, True]


def test_what_came_long_ago_does_not_recur() -> None:
    memo: Memo[str] = Memo()
    memo.recurs(b"once")
    for number in range(50 * PLACES):
        memo.recurs(b"%d" % number)
    assert not memo.recurs(b"once")


@pytest.mark.parametrize(("size", "known"), [(LARGEST, True), (LARGEST + 1, False)], ids=["largest", "larger"])
def test_what_is_too_large_never_recurs(size: int, *, known: bool) -> None:
    memo: Memo[int] = Memo()
    memo.recurs(bytes(size))
    assert memo.recurs(bytes(size)) is known


def test_no_more_than_so_many_are_remembered() -> None:
    memo: Memo[int] = Memo()
    for number in range(10 * MOST):
        memo.add(b"%d" % number, number)
        assert memo.get(b"%d" % number) == number
        assert len(memo._known) <= MOST


def test_what_is_cleared_is_forgotten_and_may_be_remembered_anew() -> None:
    memo: Memo[str] = Memo()
    known = memo.get
    memo.add(b"one", "before")
    memo.clear()
    assert known(b"one") is None
    memo.add(b"one", "after")
    assert known(b"one") == "after"
