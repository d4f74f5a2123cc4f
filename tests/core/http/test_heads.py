from __future__ import annotations

import pytest

from sidecar.core.http.heads import (
    IDEMPOTENT_METHODS,
    SAFE_METHODS,
    STANDARD_METHODS,
    Headers,
    ResponseHead,
    list_members,
    reason_phrase,
)

FIELDS = [
    (b"Accept", b"a"),
    (b"X-One", b"1"),
    (b"accept", b"b;q=0.5"),
    (b"Set-Cookie", b"s=1"),
    (b"set-cookie", b"t=2"),
]


def test_field_lines_keep_order_case_and_repeats() -> None:
    headers = Headers(FIELDS)
    assert list(headers) == FIELDS
    assert ResponseHead(200, headers).octets == (
        b"HTTP/1.1 200 OK\r\nAccept: a\r\nX-One: 1\r\naccept: b;q=0.5\r\nSet-Cookie: s=1\r\nset-cookie: t=2\r\n"
    )


@pytest.mark.parametrize(
    ("name", "combined"),
    [(b"accept", b"a, b;q=0.5"), (b"x-one", b"1"), (b"set-cookie", b"s=1, t=2"), (b"absent", None)],
    ids=["repeated", "once", "cookies", "absent"],
)
def test_a_look_up_is_by_the_lower_case_name(name: bytes, combined: bytes | None) -> None:
    headers = Headers(FIELDS)
    assert headers.get(name) == combined
    assert (name in headers) is (combined is not None)


def test_no_fields_are_an_empty_section() -> None:
    empty = Headers()
    assert (len(empty), list(empty)) == (0, [])
    assert len(Headers(FIELDS)) == 5


def test_any_iterable_of_fields_makes_a_section_of_its_own() -> None:
    assert list(Headers(iter(FIELDS))) == FIELDS
    assert Headers(tuple(FIELDS)) == Headers(FIELDS)


def test_sections_are_equal_when_their_lines_are() -> None:
    same, other = Headers(list(FIELDS)), Headers(FIELDS[:1])
    assert Headers(FIELDS) == same
    assert hash(Headers(FIELDS)) == hash(same)
    assert same != other
    assert same != FIELDS
    assert repr(other) == "Headers([(b'Accept', b'a')])"


def test_changes_make_copies() -> None:
    headers = Headers(FIELDS)
    assert list(headers.without({b"accept", b"set-cookie"})) == [(b"X-One", b"1")]
    assert list(headers.plus((b"Via", b"x"), (b"Via", b"y"))) == [*FIELDS, (b"Via", b"x"), (b"Via", b"y")]
    assert list(headers.replacing(b"ACCEPT", b"c")) == [FIELDS[1], *FIELDS[3:], (b"ACCEPT", b"c")]
    assert list(headers) == FIELDS


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, Upgrade", [b"keep-alive", b"upgrade"]),
        (b" ,, a\t,\tb ,", [b"a", b"b"]),
        (b"a b", [b"a b"]),
        (b"\xa0a,\x0bb", [b"\xa0a", b"\x0bb"]),
    ],
    ids=["empty", "one", "lower-cased", "empty members", "inner space", "no other white space"],
)
def test_list_members(value: bytes, members: list[bytes]) -> None:
    assert list_members(value) == members


def test_safe_methods_may_be_sent_twice_and_patch_and_post_may_not() -> None:
    assert SAFE_METHODS < IDEMPOTENT_METHODS < STANDARD_METHODS
    assert sorted(STANDARD_METHODS - IDEMPOTENT_METHODS) == ["CONNECT", "PATCH", "POST"]


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (503, "Service Unavailable"),
    ],
)
def test_a_status_has_the_name_of_rfc_9110_under_every_python(status: int, phrase: str) -> None:
    assert reason_phrase(status) == phrase
