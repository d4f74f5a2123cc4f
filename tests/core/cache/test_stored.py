"""Stored answers as values, and in the form that outlives the process."""

from __future__ import annotations

import pytest

from sidecar.core.cache.stored import Draft, Plain, UseRules, from_plain, shared_rules, to_plain
from sidecar.core.http.heads import Headers, ResponseHead
from tests.support.stored_entries import BORN, WALL, entry, headers


def test_the_head_is_serialized_once() -> None:
    assert entry(b"abc", X="1").prepared == b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 3\r\n"


@pytest.mark.parametrize(
    ("status", "fields", "length"),
    [
        (200, headers(), b"3"),
        (200, headers(Content_Length="3"), b"3"),
        (200, headers(content_length="9"), b"3"),
        (204, headers(), None),
    ],
)
def test_a_draft_becomes_an_entry_that_tells_its_length(status: int, fields: Headers, length: bytes | None) -> None:
    head = ResponseHead(status, fields, b"OK")
    draft = Draft(b"k", (), head, BORN, BORN + 1, BORN + 2, WALL, UseRules(), "r", b"u", (b"tag",))
    done = draft.complete(b"abc" if status == 200 else b"")
    lengths = [value for name, value in done.head.headers if name.lower() == b"content-length"]
    assert lengths == ([] if length is None else [length])
    assert (done.keep_until, done.tags, done.route) == (BORN + 2, (b"tag",), "r")


@pytest.mark.parametrize(
    ("now", "age", "ttl"), [(BORN, 0, 60), (BORN + 0.9, 0, 59), (BORN + 60, 60, 0), (BORN + 60.1, 60, -1)]
)
def test_age_and_ttl_are_whole_seconds_rounded_down(now: float, age: int, ttl: int) -> None:
    assert (entry().age(now), entry().ttl(now)) == (age, ttl)


def test_equal_rules_are_one_object() -> None:
    assert shared_rules(UseRules(strict=True, stale_if_error=5.0)) is shared_rules(
        UseRules(strict=True, stale_if_error=5.0)
    )


def plain() -> Plain:
    stored = entry(selecting=((b"a", b"1"), (b"b", None)), rules=UseRules(shared=True, stale_if_error=7.0), X="\xff")
    return to_plain(stored, BORN + 10, WALL + 10)


def test_what_was_written_comes_back_in_the_times_of_another_process() -> None:
    back = from_plain(plain(), 5.0, WALL + 30)
    assert (back.age(5.0), back.ttl(5.0)) == (30, 30)
    again = to_plain(back, 5.0, WALL + 30)
    assert again == plain()
    assert back.prepared == entry(X="\xff").prepared


def test_a_wall_clock_set_back_adds_no_life() -> None:
    back = from_plain(plain(), 5.0, WALL - 10_000)
    assert back.age(5.0) == 0
    assert back.ttl(5.0) == 60


def test_times_are_numbers() -> None:
    good = list(plain() or ())
    good[6] = ("soon", 1.0, 2.0, 3.0)
    with pytest.raises(TypeError):
        from_plain(tuple(good), 5.0, WALL)


@pytest.mark.parametrize("position", range(11))
@pytest.mark.parametrize("junk", [None, 5, "text", b"octets", ("x",), ((1, 2),)])
def test_another_shape_is_refused_and_never_half_read(position: int, junk: Plain) -> None:
    good = list(plain() or ())
    if type(good[position]) is type(junk):
        return
    good[position] = junk
    with pytest.raises((TypeError, ValueError)):
        from_plain(tuple(good), 5.0, WALL)
