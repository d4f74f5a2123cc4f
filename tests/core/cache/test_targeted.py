"""Targeted cache control, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.directives import ResponseDirectives
from sidecar.core.cache.targeted import effective_directives, parse_dictionary, targeted_directives
from sidecar.core.http.heads import Headers

DICTIONARIES: dict[bytes, dict[bytes, bytes] | None] = {
    b"": {},
    b"a": {b"a": b"?1"},
    b"a=1, b=?0 ,\tc": {b"a": b"1", b"b": b"?0", b"c": b"?1"},
    b"  a=1  ": {b"a": b"1"},
    b'a="x\\"y", b=tok/en:x, *c=:YWI=:': {b"a": b'"x\\"y"', b"b": b"tok/en:x", b"*c": b":YWI=:"},
    b"a=1;p=2; q;r=?0, b": {b"a": b"1", b"b": b"?1"},
    b"a;p": {b"a": b"?1"},
    b"a=( 1 2;x  tok )": {b"a": b"( 1 2;x  tok )"},
    b"a=()": {b"a": b"()"},
    b"a=-1.5": {b"a": b"-1.5"},
    b"a=1, a=2": {b"a": b"2"},
    b"a,": None,
    b"a, ": None,
    b",a": None,
    b"a b": None,
    b"A": None,
    b"a=": None,
    b"a =1": None,
    b"a= 1": None,
    b"a=1.": None,
    b"a=1234567890123456": None,
    b'a="x': None,
    b"a=?2": None,
    b"a=(1": None,
    b"a, &&&": None,
}


@pytest.mark.parametrize(("text", "members"), DICTIONARIES.items())
def test_a_dictionary_is_read_by_its_grammar(text: bytes, members: dict[bytes, bytes] | None) -> None:
    assert parse_dictionary(text) == members


@given(st.binary(max_size=100))
def test_anything_else_is_refused_and_not_misread(junk: bytes) -> None:
    members = parse_dictionary(junk)
    assert members is None or all(key in junk for key in members)


FIELDS: dict[bytes, ResponseDirectives | None] = {
    b"max-age=5": ResponseDirectives(max_age=5.0),
    b"no-store": ResponseDirectives(no_store=True),
    b"no-store=?0, private": ResponseDirectives(private=True),
    b'no-cache="a b"': ResponseDirectives(unstored_fields=frozenset({b"a b"})),
    b"foo=(1 2), public": ResponseDirectives(public=True),
    b'max-age="5"': None,
    b"max-age=5.0": None,
    b"max-age=-5": None,
    b"max-age": None,
    b"no-store=1": None,
    b"private=x": None,
    b"": None,
}


@pytest.mark.parametrize(("text", "directives"), FIELDS.items())
def test_a_known_directive_of_the_wrong_type_voids_the_field(
    text: bytes, directives: ResponseDirectives | None
) -> None:
    assert targeted_directives(Headers([(b"CDN-Cache-Control", text)]), (b"cdn-cache-control",)) == directives


def test_the_first_valid_field_of_the_list_counts() -> None:
    headers = Headers(
        [(b"B", b"max-age=2"), (b"A", b"max-age=&"), (b"C", b"max-age=3"), (b"Cache-Control", b"max-age=9")]
    )
    directives, targeted = effective_directives(headers, (b"a", b"b", b"c"))
    assert (directives.max_age, targeted) == (2.0, True)
    directives, targeted = effective_directives(headers, (b"a", b"x"))
    assert (directives.max_age, targeted) == (9.0, False)
