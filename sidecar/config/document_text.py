"""The text of a document before it is parsed: octets to characters, lines as YAML counts them."""

from __future__ import annotations

import codecs
import re

from sidecar.config.problem import Position

LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.1 §5.1 does not allow in a stream."""
LARGEST = 16 * 1024 * 1024
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Unreadable(ValueError):
    """The text cannot be read from `at` on."""

    def __init__(self, at: Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.hint = hint


def decode(content: bytes | str) -> str:
    """The characters of a document; a byte order mark goes. Raises Unreadable."""
    text = content if isinstance(content, str) else _from_utf8(content)
    if len(text) > LARGEST:
        raise Unreadable(Position(1, 1), f"the text is longer than {LARGEST >> 20} MiB")
    text = text.removeprefix("\ufeff")
    if odd := FORBIDDEN.search(text):
        at = position(text, odd.start())
        hint = "is this a binary file?" if odd[0] == "\0" else "remove it, or write it as an escape in double quotes"
        raise Unreadable(at, f"the character U+{ord(odd[0]):04X} is not allowed", hint)
    return text


def _from_utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode().removeprefix("\ufeff")
        hint = "save the file as UTF-8" if not content.startswith(UTF16) else "this is UTF-16: save it as UTF-8"
        raise Unreadable(position(before, len(before)), "the text is not UTF-8", hint) from None


def position(text: str, offset: int) -> Position:
    """Line and column of the character at `offset`."""
    line, start = 1, 0
    for found in LINE_BREAK.finditer(text, 0, offset):
        line, start = line + 1, found.end()
    return Position(line, offset - start + 1)


def lines(text: str) -> list[str]:
    """The lines as YAML counts them."""
    return LINE_BREAK.split(text)
