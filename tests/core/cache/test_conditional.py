"""Preconditions: the client's against a stored answer, and ours against what comes back."""

from __future__ import annotations

import pytest

from sidecar.core.cache.conditional import contradicts, not_modified, not_modified_head, updated, validates, validators
from sidecar.core.http.heads import Headers
from tests.support.stored_entries import entry, headers

MODIFIED = "Sun, 09 Sep 2001 01:00:00 GMT"
LATER = "Sun, 09 Sep 2001 01:30:00 GMT"
EARLIER = "Sun, 09 Sep 2001 00:59:59 GMT"
RFC_850 = "Sunday, 09-Sep-01 01:00:00 GMT"

NOT_MODIFIED: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    "same tag": ({"ETag": '"v"'}, {"If_None_Match": '"v"'}, True),
    "another tag": ({"ETag": '"v"'}, {"If_None_Match": '"w"'}, False),
    "weak stored": ({"ETag": 'W/"v"'}, {"If_None_Match": '"v"'}, True),
    "weak asked": ({"ETag": '"v"'}, {"If_None_Match": 'W/"v"'}, True),
    "one of a list": ({"ETag": '"v"'}, {"If_None_Match": '"u", W/"v" , "w"'}, True),
    "a comma in a tag": ({"ETag": '"a,b"'}, {"If_None_Match": '"x", "a,b"'}, True),
    "none of a list": ({"ETag": '"v"'}, {"If_None_Match": '"u", "w"'}, False),
    "any": ({}, {"If_None_Match": "*"}, True),
    "no tag stored": ({}, {"If_None_Match": '"v"'}, False),
    "obs-text": ({"ETag": '"\xfc"'}, {"If_None_Match": '"\xfc"'}, True),
    "unquoted, the same": ({"ETag": "v"}, {"If_None_Match": "v"}, True),
    "unquoted is not quoted": ({"ETag": '"v"'}, {"If_None_Match": "v"}, False),
    "the tag goes before the date": (
        {"ETag": '"v"', "Last_Modified": MODIFIED},
        {"If_None_Match": '"w"', "If_Modified_Since": LATER},
        False,
    ),
    "same date": ({"Last_Modified": MODIFIED}, {"If_Modified_Since": MODIFIED}, True),
    "later date": ({"Last_Modified": MODIFIED}, {"If_Modified_Since": LATER}, True),
    "earlier date": ({"Last_Modified": MODIFIED}, {"If_Modified_Since": EARLIER}, False),
    "RFC 850": ({"Last_Modified": MODIFIED}, {"If_Modified_Since": RFC_850}, True),
    "no date": ({"Last_Modified": MODIFIED}, {"If_Modified_Since": "yesterday"}, False),
    "Date stands for Last-Modified": ({"Date": MODIFIED}, {"If_Modified_Since": LATER}, True),
    "and may be too late": ({"Date": LATER}, {"If_Modified_Since": MODIFIED}, False),
    "received stands for both": ({}, {"If_Modified_Since": "Sun, 09 Sep 2001 01:46:40 GMT"}, True),
    "nothing asked": ({"ETag": '"v"'}, {}, False),
}


@pytest.mark.parametrize(("stored", "asked", "answer"), NOT_MODIFIED.values(), ids=NOT_MODIFIED.keys())
def test_when_the_client_has_it_already(stored: dict[str, str], asked: dict[str, str], *, answer: bool) -> None:
    assert not_modified(headers(**asked), entry(**stored)) is answer  # type: ignore[arg-type]  # field names


def test_only_a_200_can_be_unmodified() -> None:
    assert not not_modified(headers(If_None_Match="*"), entry(status=404))


def test_a_304_carries_all_but_what_describes_the_content() -> None:
    stored = entry(ETag='"v"', Content_Type="text/plain", Vary="a", Date=MODIFIED, Accept_Ranges="bytes", Server="s")
    head = not_modified_head(stored)
    assert head.status == 304
    assert [name for name, _ in head.headers] == [b"ETag", b"Vary", b"Date", b"Server"]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ({}, []),
        ({"ETag": 'W/"v"'}, [(b"If-None-Match", b'W/"v"')]),
        ({"Last_Modified": MODIFIED}, [(b"If-Modified-Since", MODIFIED.encode())]),
        ({"Last_Modified": "once"}, []),
        ({"ETag": "v", "Last_Modified": RFC_850}, [(b"If-None-Match", b"v"), (b"If-Modified-Since", RFC_850.encode())]),
    ],
)
def test_validators_are_sent_as_they_were_received(stored: dict[str, str], asked: list[tuple[bytes, bytes]]) -> None:
    assert validators(entry(**stored)) == asked  # type: ignore[arg-type]  # field names


@pytest.mark.parametrize(
    ("fresh", "stored", "same"),
    [
        ({}, {"ETag": '"v"'}, True),
        ({"ETag": '"v"'}, {"ETag": '"v"'}, True),
        ({"ETag": 'W/"v"'}, {"ETag": '"v"'}, True),
        ({"ETag": '"w"'}, {"ETag": '"v"'}, False),
        ({"ETag": '"v"'}, {}, False),
        ({"Last-Modified": "a"}, {"Last-Modified": "a"}, True),
        ({"Last-Modified": "a"}, {"Last-Modified": "b"}, False),
        ({"Last-Modified": "a"}, {}, True),
        ({"ETag": '"v"', "Last-Modified": "a"}, {"ETag": '"v"', "Last-Modified": "b"}, True),
    ],
)
def test_whether_a_304_is_about_what_is_stored(fresh: dict[str, str], stored: dict[str, str], *, same: bool) -> None:
    assert validates(headers(**fresh), headers(**stored)) is same


def test_a_304_replaces_fields_by_name_but_nothing_about_the_octets() -> None:
    stored = Headers([(b"A", b"1"), (b"a", b"2"), (b"B", b"1"), (b"Content-Length", b"5"), (b"Content-Encoding", b"x")])
    fresh = Headers([(b"a", b"3"), (b"C", b"1"), (b"content-length", b"9"), (b"Content-Encoding", b"y")])
    assert updated(stored, fresh) == Headers(
        [(b"B", b"1"), (b"Content-Length", b"5"), (b"Content-Encoding", b"x"), (b"a", b"3"), (b"C", b"1")]
    )


@pytest.mark.parametrize(
    ("fresh", "stored", "expected"),
    [
        ({}, {}, False),
        ({"ETag": '"v"'}, {"ETag": 'W/"v"'}, False),
        ({"ETag": '"w"'}, {"ETag": '"v"'}, True),
        ({"ETag": '"w"'}, {}, False),
        ({"Last_Modified": MODIFIED}, {"Last_Modified": MODIFIED}, False),
        ({"Last_Modified": LATER}, {"Last_Modified": MODIFIED}, True),
        ({"ETag": '"v"', "Last_Modified": LATER}, {"ETag": '"v"', "Last_Modified": MODIFIED}, False),
        ({"ETag": '"w"', "Last_Modified": LATER}, {"Last_Modified": MODIFIED}, True),
    ],
)
def test_validators_contradict_only_where_both_have_them(
    fresh: dict[str, str], stored: dict[str, str], *, expected: bool
) -> None:
    assert contradicts(headers(**fresh), headers(**stored)) is expected
