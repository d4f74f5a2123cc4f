from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.core.storage.plain_codec import encode
from sidecar.core.storage.shared_value import HEAD, LARGEST, PREAMBLE, VERSION, read_value, write_value
from tests.support.stored_answers import answer, language

if TYPE_CHECKING:
    from sidecar.core.cache.stored import StoredResponse

NOW, WALL = 1000.0, 1_764_000_000.0


def value_of(stored: StoredResponse, position: int = 7) -> bytes:
    return write_value(stored, position, NOW, WALL)


def enclosed(payload: bytes, size: int | None = None) -> bytes:
    """A whole value around any payload; it is compressed where it says another `size`."""
    content = HEAD.pack(7, WALL, size is not None, len(payload) if size is None else size) + payload
    return PREAMBLE.pack(b"CSCV", VERSION, zlib.crc32(content)) + content


@pytest.mark.parametrize("body", [b"", b"short", b"long " * 5000])
def test_what_is_written_is_read(body: bytes) -> None:
    stored = answer(1, body=body, selecting=language(None), tags=(b"t",))
    value = read_value(value_of(stored), stored.key, 0.0, NOW)
    assert value.position == 7
    for name in ("key", "selecting", "head", "body", "rules", "route", "url", "tags", "stored_wall", "prepared"):
        assert getattr(value.stored, name) == getattr(stored, name), name


def test_its_times_go_on_while_it_lies_there_whatever_the_clocks_say() -> None:
    stored = answer()
    (again, _) = read_value(value_of(stored), stored.key, 30.0, 5000.0)
    assert again.born == pytest.approx(stored.born - NOW + 5000.0 - 30.0)
    assert again.expires_at == pytest.approx(stored.expires_at - NOW + 5000.0 - 30.0)
    assert again.keep_until == pytest.approx(stored.keep_until - NOW + 5000.0 - 30.0)


def test_what_is_large_is_compressed_unless_it_is_coded_already() -> None:
    plain = answer(body=b"a" * 100_000)
    assert len(value_of(plain)) < 2000
    head = ResponseHead(200, plain.head.headers.plus((b"Content-Encoding", b"gzip")), b"OK")
    assert len(value_of(replace(plain, head=head))) > 100_000


def test_what_does_not_get_smaller_is_left_as_it_is() -> None:
    noise = b"".join(zlib.compress(b"%d" % number)[2:] for number in range(2000))
    stored = answer(body=zlib.compress(noise, 9))
    assert read_value(value_of(stored), stored.key, 0.0, NOW).stored.body == stored.body


def test_too_much_is_not_written() -> None:
    with pytest.raises(ValueError, match="more than"):
        value_of(answer(body=bytes(LARGEST)))


@given(st.data())
def test_a_value_that_was_changed_anywhere_is_no_value(data: st.DataObject) -> None:
    stored = answer(body=b"b" * 20)
    octets = bytearray(value_of(stored))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r".*"):
        read_value(bytes(octets), stored.key, 0.0, NOW)


@given(st.binary(max_size=200))
def test_nonsense_is_no_value(octets: bytes) -> None:
    for value in (octets, b"CSCV\x01" + octets, enclosed(octets), enclosed(octets, 50)):
        with pytest.raises(ValueError, match=r".*"):
            read_value(value, b"key", 0.0, NOW)


@pytest.mark.parametrize("length", [0, 1, PREAMBLE.size, 60])
def test_a_value_that_was_cut_is_no_value(length: int) -> None:
    stored = answer()
    with pytest.raises(ValueError, match=r".*"):
        read_value(value_of(stored)[:length], stored.key, 0.0, NOW)


def test_the_answer_to_another_key_is_no_answer() -> None:
    with pytest.raises(ValueError, match="another key"):
        read_value(value_of(answer(1)), answer(2).key, 0.0, NOW)


@pytest.mark.parametrize(
    "fields",
    [[(b"X", b"a\r\nSet-Cookie: b")], [(b"X\nY", b"a")], [(b"Content-Length", b"3")]],
    ids=["value", "name", "length"],
)
def test_what_would_break_the_framing_is_no_answer(fields: list[tuple[bytes, bytes]]) -> None:
    stored = replace(answer(), head=ResponseHead(200, Headers(fields), b"OK"))
    with pytest.raises(ValueError, match=r"line break|another length"):
        read_value(value_of(stored), stored.key, 0.0, NOW)


def test_a_bomb_is_not_unpacked() -> None:
    payload = zlib.compress(bytes(10_000_000))
    for size in (100, LARGEST + 1):
        with pytest.raises(ValueError, match=r".*"):
            read_value(enclosed(payload, size), b"key", 0.0, NOW)


def test_a_value_of_the_next_version_is_none_of_this_one() -> None:
    octets = value_of(answer())
    assert octets[4] == VERSION
    with pytest.raises(ValueError, match="version"):
        read_value(octets[:4] + b"\x02" + octets[5:], answer().key, 0.0, NOW)


def test_another_shape_is_no_answer() -> None:
    parts: list[bytes] = []
    encode((1, 2, 3), parts)
    with pytest.raises(ValueError, match=r".*"):
        read_value(enclosed(b"".join(parts)), b"key", 0.0, NOW)
