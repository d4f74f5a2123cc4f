"""Which methods are forwarded, and how one is found in a head of which some has come."""

from __future__ import annotations

import pytest

from sidecar.core.http.methods import LONGEST_METHOD, MethodFlaw, find_method, flaw_of, with_method_of_parser

LONGEST = "M" * LONGEST_METHOD


@pytest.mark.parametrize(
    ("method", "flaw"),
    [
        ("GET", None),
        ("LIST", None),
        ("get", None),
        ("M-SEARCH", None),
        ("!#$%&'*+-.^_`|~09", None),
        (LONGEST, None),
        (LONGEST + "M", MethodFlaw.TOO_LONG),
        ("CONNECT", MethodFlaw.NEVER_FORWARDED),
        ("TRACE", MethodFlaw.NEVER_FORWARDED),
        ("PRI", MethodFlaw.NEVER_FORWARDED),
        ("", MethodFlaw.MALFORMED),
        ("G T", MethodFlaw.MALFORMED),
        ("GET\n", MethodFlaw.MALFORMED),
        ("GE(T", MethodFlaw.MALFORMED),
        ("GÄT", MethodFlaw.MALFORMED),
        ("G(" + LONGEST, MethodFlaw.MALFORMED),
    ],
)
def test_any_token_is_a_method(method: str, flaw: MethodFlaw | None) -> None:
    assert flaw_of(method) is flaw
    assert flaw is None or flaw.status == (400 if flaw is MethodFlaw.MALFORMED else 501)


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"LIST /x", (b"LIST", 4)),
        (b"\r\n\r\nLIST /x", (b"LIST", 8)),
        (LONGEST.encode() + b" ", (LONGEST.encode(), LONGEST_METHOD)),
        (b"", None),
        (b"\r", None),
        (b"\r\n\r", None),
        (b"LI", None),
        (LONGEST.encode(), None),
        (LONGEST.encode() + b"M", MethodFlaw.TOO_LONG),
        (b"\r\n" + LONGEST.encode() + b"M(", MethodFlaw.TOO_LONG),
        (b"\nLIST /", MethodFlaw.MALFORMED),
        (b"\rLIST /", MethodFlaw.MALFORMED),
        (b" LIST /", MethodFlaw.MALFORMED),
        (b"LIST\t/", MethodFlaw.MALFORMED),
        (b"LIST\r\n", MethodFlaw.MALFORMED),
        (b"L(", MethodFlaw.MALFORMED),
        (b"\x16\x03", MethodFlaw.MALFORMED),
    ],
    ids=repr,
)
def test_a_method_is_found_once_it_has_ended(octets: bytes, found: tuple[bytes, int] | MethodFlaw | None) -> None:
    assert find_method(octets) == found


def test_the_parser_is_shown_the_rest_of_the_head_as_it_is() -> None:
    head = b"\r\nLIST /x HTTP/1.1\r\nHost: LIST\r\n\r\n"
    assert with_method_of_parser(head, 6) == b"POST /x HTTP/1.1\r\nHost: LIST\r\n\r\n"
