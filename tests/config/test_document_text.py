import pytest

from sidecar.config.document_text import Unreadable, decode, lines, position
from sidecar.config.problem import Position


def test_a_byte_order_mark_is_dropped() -> None:
    assert decode(b"\xef\xbb\xbfa: 1") == "a: 1"


@pytest.mark.parametrize(
    ("content", "at", "message"),
    [
        (b"a: 1\nb: \xff", Position(2, 4), "the text is not UTF-8"),
        (b"\xff\xfea\0:\0", Position(1, 1), "the text is not UTF-8"),
        (b"a: \0", Position(1, 4), r"the character U\+0000 is not allowed"),
        (b"\xc3\xa4\r\n\x1b[31m", Position(2, 1), r"the character U\+001B is not allowed"),
        ("a\n\ud800", Position(2, 1), r"the character U\+D800 is not allowed"),
    ],
)
def test_text_that_yaml_does_not_allow_is_refused_at_its_place(
    content: bytes | str, at: Position, message: str
) -> None:
    with pytest.raises(Unreadable, match=message) as refused:
        decode(content)
    assert refused.value.at == at


def test_a_text_beyond_the_limit_is_refused() -> None:
    with pytest.raises(Unreadable, match="longer than 16 MiB"):
        decode("#" * (16 * 1024 * 1024 + 1))


def test_lines_end_where_yaml_ends_them() -> None:
    assert lines("a\r\nb\rc\nd\x85e\u2028f") == ["a", "b", "c", "d", "e", "f"]
    assert position("a\r\nbc", 4) == Position(2, 2)
