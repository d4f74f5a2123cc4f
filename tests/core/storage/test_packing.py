import sys
from dataclasses import fields

import pytest

from sidecar.core.cache.stored import StoredResponse
from sidecar.core.storage.packing import identify, live_size, object_size, pack, packed_size, unpack
from tests.support.stored_answers import answer, language


def test_an_answer_survives_packing_whole() -> None:
    stored = answer(7, body=b"\x00\xff", selecting=language(None), tags=(b"a", b"b"))
    again = unpack(pack(stored), stored.body, stored.route)
    assert all(getattr(again, field.name) == getattr(stored, field.name) for field in fields(StoredResponse))
    assert again.body is stored.body


def test_a_record_is_known_by_key_variant_url_and_tags() -> None:
    stored = answer(7, selecting=language(b"de"), tags=(b"a",))
    assert identify(pack(stored)) == (stored.key, stored.selecting, stored.url, stored.tags)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 479, 480, 512, 5000])
def test_the_size_of_octets_is_what_the_interpreter_takes_rounded_up(length: int) -> None:
    size = object_size(b"x" * length)
    assert size % 16 == 0
    assert 0 <= size - sys.getsizeof(b"x" * length) < 16 + 8 + length // 16


def test_a_packed_answer_is_smaller_than_a_live_one() -> None:
    stored = answer()
    assert packed_size(stored, pack(stored)) < live_size(stored)
