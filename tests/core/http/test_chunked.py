"""The chunked coding: each case is decoded whole, octet by octet, cut at every place, and with octets behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.http.chunked import ChunkedDecoder, plain_chunks, sole_chunk
from tests.support.readers import cut, every_byte

BUDGET = 200
BEHIND = b"GET /next HTTP/1.1\r\n"


def decode(pieces: list[bytes], *, padded: bool = False) -> tuple[bytes, bool, bool, list[tuple[bytes, bytes]], bytes]:
    """Content, whether it is whole, whether it is at fault, trailers, and what is behind it."""
    decoder = ChunkedDecoder(BUDGET, padded=padded)
    content, behind = b"", b""
    for piece in pieces:
        if decoder.complete:
            behind += piece
        elif not decoder.fault:
            content += decoder.feed(piece)
            behind += decoder.rest
    return content, decoder.complete, bool(decoder.fault), decoder.trailers, behind


def cuts(data: bytes) -> list[list[bytes]]:
    return [[data], every_byte(data), *(cut(data, [at]) for at in range(1, len(data)))]


WHOLE = {
    "one chunk": b"5\r\nhello\r\n0\r\n\r\n",
    "two chunks": b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "one octet each": b"".join(b"1\r\n%c\r\n" % octet for octet in b"hello") + b"0\r\n\r\n",
    "hexadecimal": b"1\r\nh\r\n000000000000004\r\nello\r\n000\r\n\r\n",
    "extension": b"5;a\r\nhello\r\n0;z\r\n\r\n",
    "extension with value": b"5;a=b;c=d\r\nhello\r\n0;a=b\r\n\r\n",
    "extension quoted": b'5;a="b c;\\"\t\xff";d=""\r\nhello\r\n0;a="b"\r\n\r\n',
    "space before the semicolon": b"5 ;a=b\r\nhello\r\n0 ;a=b\r\n\r\n",
    "space after the semicolon": b"5; a=b\r\nhello\r\n0; a=b\r\n\r\n",
    "space before the equals sign": b"5;a =b\r\nhello\r\n0;a =b\r\n\r\n",
    "space after the equals sign": b"5;a= b\r\nhello\r\n0;a= b\r\n\r\n",
    "space between extensions": b"5;a=b ; c\r\nhello\r\n0;a ; b\r\n\r\n",
    "space before a quoted value": b'5 ; a = "b c" ; d\r\nhello\r\n0 ; a = "b"\r\n\r\n',
    "tabs everywhere": b'5\t;\ta\t=\t"b"\t \t;c\r\nhello\r\n0\t;\tc\r\n\r\n',
    "largest budget": b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"a" * (BUDGET - 1)),
}
TRAILED = {
    "trailer": (b"X-Sum: 1\r\n", [(b"X-Sum", b"1")]),
    "trailers": (b"a:b\r\nA:\t c d \t\r\nempty:\r\n", [(b"a", b"b"), (b"A", b"c d"), (b"empty", b"")]),
    "obs-text": (b"a: \xff\x80\r\n", [(b"a", b"\xff\x80")]),
}
PADDED = {
    "spaces": b"5 \r\nhello\r\n0\r\n\r\n",
    "more spaces": b"5       \r\nhello\r\n0      \r\n\r\n",
    "spaces and extensions": b"5  \r\nhello\r\n0  ;a=b\r\n\r\n",
}
FAULTY = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal": b"g\r\nhello\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "leading space": b" 5\r\nhello\r\n0\r\n\r\n",
    "seventeen digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "a thousand digits": b"f" * 1000,
    "bare LF": b"5\nhello\r\n0\r\n\r\n",
    "bare CR": b"5\rhello\r\n0\r\n\r\n",
    "CR CR LF": b"5\r\r\nhello\r\n0\r\n\r\n",
    "LF CR LF": b"5\n\r\nhello\r\n0\r\n\r\n",
    "NUL": b"5\x00\r\nhello\r\n0\r\n\r\n",
    "vertical tab": b"5\x0b;a\r\nhello\r\n0\r\n\r\n",
    "no-break space": b"5\xa0;a\r\nhello\r\n0\r\n\r\n",
    "tab after the size": b"5\t\r\nhello\r\n0\r\n\r\n",
    "spaces and a word": b"5 a\r\nhello\r\n0\r\n\r\n",
    "no name": b"5;\r\nhello\r\n0\r\n\r\n",
    "blank name": b"5; \r\nhello\r\n0\r\n\r\n",
    "two semicolons": b"5;;a\r\nhello\r\n0\r\n\r\n",
    "value without a name": b"5;=b\r\nhello\r\n0\r\n\r\n",
    "no value": b"5;a=\r\nhello\r\n0\r\n\r\n",
    "space after an extension": b"5;a=b \r\nhello\r\n0\r\n\r\n",
    "space in a value": b"5;a=b c\r\nhello\r\n0\r\n\r\n",
    "open quotes": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "CRLF in quotes": b'5;a="\r\n5"\r\nhello\r\n0\r\n\r\n',
    "word after quotes": b'5;a="b"c\r\nhello\r\n0\r\n\r\n',
    "quoted name": b'5;"a"\r\nhello\r\n0\r\n\r\n',
    "control character in quotes": b'5;a="\x01"\r\nhello\r\n0\r\n\r\n',
    "control character quoted": b'5;a="\\\x7f"\r\nhello\r\n0\r\n\r\n',
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "data too long": b"5\r\nhelloX\r\n0\r\n\r\n",
    "data too short": b"6\r\nhello\r\n0\r\n\r\n",
    "data, then LF": b"5\r\nhello\n0\r\n\r\n",
    "data, then CR": b"5\r\nhello\r0\r\n\r\n",
    "last chunk, LF": b"5\r\nhello\r\n0\n\r\n",
    "last chunk twice": b"5\r\nhello\r\n0\r\n0\r\n\r\n",
    "end by LF": b"5\r\nhello\r\n0\r\n\n",
    "end by CR": b"5\r\nhello\r\n0\r\n\rX",
    "trailer without a colon": b"0\r\nA\r\n\r\n",
    "trailer without a name": b"0\r\n: a\r\n\r\n",
    "trailer folded": b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer, space before the colon": b"0\r\nA : b\r\n\r\n",
    "trailer, bare LF": b"0\r\nA: b\nC: d\r\n\r\n",
    "trailer, NUL": b"0\r\nA: \x00\r\n\r\n",
    "extension too large": b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"a" * BUDGET),
    "extension without end": b"5;" + b"a" * (BUDGET + 20),
    "extensions too large together": b"1;abcdefghi\r\nx\r\n" * 21,
    "trailers too large together": b"0\r\n" + b"a: b\r\n" * 40,
    "trailer without end": b"0\r\na: " + b"b" * BUDGET,
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("padded", [False, True], ids=["strict", "padded"])
def test_content_ends_where_it_says_however_it_is_cut(data: bytes, *, padded: bool) -> None:
    for pieces in cuts(data):
        assert decode(pieces, padded=padded) == (b"hello", True, False, [], b"")
    for pieces in cuts(data + BEHIND):
        assert decode(pieces, padded=padded) == (b"hello", True, False, [], BEHIND)


@pytest.mark.parametrize(("lines", "fields"), TRAILED.values(), ids=TRAILED)
def test_trailer_fields_are_kept_as_received(lines: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    for pieces in cuts(b"5\r\nhello\r\n0\r\n" + lines + b"\r\n" + BEHIND):
        assert decode(pieces) == (b"hello", True, False, fields, BEHIND)


@pytest.mark.parametrize("data", PADDED.values(), ids=PADDED)
def test_spaces_after_a_size_are_for_those_whose_owner_says_so(data: bytes) -> None:
    for pieces in cuts(data + BEHIND):
        assert decode(pieces, padded=True) == (b"hello", True, False, [], BEHIND)
        assert decode(pieces)[1:3] == (False, True)


@pytest.mark.parametrize("data", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize("padded", [False, True], ids=["strict", "padded"])
def test_what_is_no_chunked_content_is_at_fault_however_it_is_cut(data: bytes, *, padded: bool) -> None:
    for pieces in cuts(data):
        content, complete, fault, _, behind = decode(pieces, padded=padded)
        assert (complete, fault, behind) == (False, True, b"")
        assert b"hello\r\n0\r\n"[:6].startswith(content) or content.strip(b"x") == b""


@pytest.mark.parametrize("begun", [b"z", b"5\r\nhelloX", b"5 \x00", b"5;a\rb", b"0\r\nA: \x00"])
def test_a_fault_is_told_before_its_line_ends(begun: bytes) -> None:
    decoder = ChunkedDecoder(BUDGET)
    decoder.feed(begun)
    assert decoder.fault


@pytest.mark.parametrize("data", [b"", b"5", b"5\r", b"5\r\nhel", b"5\r\nhello\r", b"0\r\n", b"0\r\nA: b\r\n\r"])
def test_what_has_not_ended_is_neither_whole_nor_at_fault(data: bytes) -> None:
    for pieces in cuts(data):
        assert decode(pieces)[1:3] == (False, False)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\n\r\n\r\n", None),
        (b"5\r\nhello\r\n0\r\n", None),
        (b"6\r\nhello\r\n0\r\n\r\n", None),
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", None),
        (b"5;a\r\nhello\r\n0\r\n\r\n", None),
        (b"0\r\n\r\n", None),
        (b"", None),
    ],
)
def test_a_single_chunk_is_taken_at_once(data: bytes, content: bytes | None) -> None:
    assert sole_chunk(data) == content


@pytest.mark.parametrize(
    ("data", "content", "end"),
    [
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", -1),
        (b"0\r\n\r\n", b"", -1),
        (b"2\r\nhe\r\n", b"he", 7),
        (b"2\r\nhe\r\n3\r\nll", b"he", 7),
        (b"2\r\nhe\r\n3;a\r\nllo\r\n", b"he", 7),
        (b"2\r\nhe\r\n0\r\n\r\nmore", b"he", 7),
        (b"2\r\nhe\r\n0\r\na: b\r\n\r\n", b"he", 7),
        (b"2\r\nhey", b"", 0),
        (b"", b"", 0),
    ],
)
def test_plain_chunks_are_taken_as_far_as_they_go(data: bytes, content: bytes, end: int) -> None:
    pieces: list[bytes] = []
    assert plain_chunks(data, pieces) == end
    assert b"".join(pieces) == content


@given(st.text("05 ;a\r\n", max_size=24).map(str.encode))
def test_a_decoder_reads_on_from_plain_chunks(data: bytes) -> None:
    pieces: list[bytes] = []
    end = plain_chunks(data, pieces)
    content, complete, fault, trailers, behind = decode([data] if end < 0 else [data[end:]])
    whole = decode([data])
    assert whole == (content if end < 0 else b"".join(pieces) + content, complete, fault, trailers, behind)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_content_comes_back(chunks: list[bytes], places: list[int]) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert decode(cut(data + BEHIND, places)) == (b"".join(chunks), True, False, [], BEHIND)


@given(
    st.text('05 ;a="\\\t\r\n', max_size=24).map(str.encode), st.lists(st.integers(0, 100), max_size=4), st.booleans()
)
def test_cuts_change_nothing(data: bytes, places: list[int], padded: bool) -> None:  # noqa: FBT001 - drawn
    for pieces in (every_byte(data), cut(data, places)):
        assert decode(pieces, padded=padded) == decode([data], padded=padded)
