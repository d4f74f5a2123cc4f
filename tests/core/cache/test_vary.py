"""Vary: which variant a request may have. What equals what is in the exchanges of test_reuse.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.vary import matches, normalized, select, selecting_values
from sidecar.core.http.heads import Headers
from tests.support.stored_entries import entry, headers

FIELDS = st.dictionaries(st.sampled_from(["A", "B", "C"]), st.sampled_from(["", "1", "2", "1,2", "1, 2"]))
NAMES = st.lists(st.sampled_from(["a", "B", "c", ""])).map(", ".join)


def test_names_are_sorted_folded_and_counted_once() -> None:
    request = headers(B="x , y", C="z")
    assert selecting_values(b"C,b,  A, c", request) == ((b"a", None), (b"b", b"x,y"), (b"c", b"z"))


def test_no_vary_selects_nothing_and_matches_everything() -> None:
    assert selecting_values(None, headers()) == ()
    assert selecting_values(b"", headers()) == ()
    assert matches((), headers(A="1"))


def test_quoted_values_are_left_alone() -> None:
    assert normalized(b"foo", b'"a ,b"') == b'"a ,b"'


@given(st.sampled_from([b"accept-encoding", b"a"]), st.text(alphabet='aB ,;"\t', max_size=8))
def test_the_normal_form_is_its_own_normal_form(name: bytes, value: str) -> None:
    once = normalized(name, value.encode())
    assert normalized(name, once) == once


def test_a_list_of_any_length_is_put_in_order() -> None:
    names = [b"%03d" % number for number in range(200)]
    assert normalized(b"accept-encoding", b" , ".join(reversed(names))) == b",".join(names)


@given(FIELDS, NAMES)
def test_a_request_matches_its_own_answer(fields: dict[str, str], vary: str) -> None:
    request = headers(**fields)
    selecting = selecting_values(vary.encode(), request)
    assert selecting is not None
    assert matches(selecting, request)


@given(FIELDS, FIELDS, NAMES)
def test_two_requests_share_only_when_every_listed_field_agrees(
    one: dict[str, str], other: dict[str, str], vary: str
) -> None:
    selecting = selecting_values(vary.encode(), headers(**one))
    assert selecting is not None
    listed = [name for name in "ABC" if name.lower() in vary.lower()]

    def compact(value: str | None) -> str | None:
        return None if value is None else value.replace(" ", "")

    agree = all(compact(one.get(name)) == compact(other.get(name)) for name in listed)
    assert matches(selecting, headers(**other)) is agree


def test_the_first_match_is_selected_but_one_with_vary_before_one_without() -> None:
    plain, older = entry(), entry()
    for_one = entry(selecting=((b"a", b"1"),))
    for_two = entry(selecting=((b"a", b"2"),))
    variants = [plain, for_two, for_one, older]
    assert select(variants, headers(A="1")) is for_one
    assert select(variants, headers(A="3")) is plain
    assert select([for_one, for_two], Headers()) is None
    assert select([], Headers()) is None
