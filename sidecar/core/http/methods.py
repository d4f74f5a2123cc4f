"""Request methods (RFC 9110 §9): any token is one. What is not: malformed, too long, or never forwarded by a proxy
of this kind.

Configuration, explanation and the reader of requests all ask here, so that they agree.
"""

from __future__ import annotations

import re
from enum import Enum

LONGEST_METHOD = 32
"""Octets. The longest registered method has 17."""
NEVER_FORWARDED = frozenset({"CONNECT", "PRI", "TRACE"})
"""A tunnel, HTTP/2's preface (RFC 9113 §3.4), and an echo that tells what the next hop was sent."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(?:\r\n)*+(%b{1,%d}) " % (_TOKEN, LONGEST_METHOD))
_LINE_BEGUN = re.compile(rb"(?:\r\n)*+(?:\r|%b{0,%d})" % (_TOKEN, LONGEST_METHOD))
_TOO_LONG = re.compile(rb"(?:\r\n)*+%b{%d}" % (_TOKEN, LONGEST_METHOD + 1))
_NAME = re.compile(_TOKEN.decode() + "+")


class MethodFlaw(Enum):
    """Why a request with a method is not forwarded."""

    MALFORMED = "the request line is malformed"
    TOO_LONG = "the request method is too long"
    NEVER_FORWARDED = "the request method is not done here"

    @property
    def status(self) -> int:
        """The answer's status (RFC 9110 §15.5.1, §15.6.2; RFC 9112 §3 for the length)."""
        return 400 if self is MethodFlaw.MALFORMED else 501


def flaw_of(method: str) -> MethodFlaw | None:
    """Why `method` would not be forwarded; None when it would."""
    if len(method) > LONGEST_METHOD and _NAME.fullmatch(method[: LONGEST_METHOD + 1]):
        return MethodFlaw.TOO_LONG
    if _NAME.fullmatch(method) is None:
        return MethodFlaw.MALFORMED
    return MethodFlaw.NEVER_FORWARDED if method in NEVER_FORWARDED else None


def find_method(octets: bytes) -> tuple[bytes, int] | MethodFlaw | None:
    """The method at the beginning of a request head, and where it ends, empty lines before it passed over (RFC 9112
    §2.2); or why it is none; or None when more octets are needed to tell.
    """
    line = _LINE.match(octets)
    if line is not None:
        return line[1], line.end(1)
    if _TOO_LONG.match(octets):
        return MethodFlaw.TOO_LONG
    return None if _LINE_BEGUN.fullmatch(octets) else MethodFlaw.MALFORMED


def with_method_of_parser(octets: bytes, end: int) -> bytes:
    """A head whose method ends at `end`, with one that llhttp knows and treats like any other in its place.

    llhttp refuses methods that are not on its list, and gives some that are (CONNECT, PRI, SOURCE, those of RTSP) a
    meaning of their own. For the rest of a request the method makes no difference (RFC 9112 §6).
    """
    return b"POST" + octets[end:]
