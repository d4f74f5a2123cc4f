"""Which stored answers a new one takes the place of, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.cache.rules import RouteRules
from sidecar.core.cache.stored import UseRules
from sidecar.core.cache.superseding import replaced, replaces, withdrawn
from sidecar.core.config import CacheSettings
from sidecar.core.http.heads import ResponseHead
from tests.support.stored_entries import entry, headers

RULES = RouteRules(CacheSettings(), failures=frozenset({409, 500, 503}))
PLAIN = entry(ETag='"v1"')
PUBLIC = UseRules(shared=True)
BASIC = {"Authorization": "Basic x"}
COOKIE = {"Cookie": "session=x"}


@pytest.mark.parametrize(
    ("status", "gone"),
    [
        *((status, True) for status in (200, 204, 206, 301, 302, 303, 304, 307, 308)),
        *((status, True) for status in (400, 401, 402, 403, 404, 405, 406, 410, 412, 416, 431, 451, 499)),
        *((status, False) for status in (408, 425, 429)),
        *((status, False) for status in (409, 500, 501, 502, 503, 504, 505, 599)),
    ],
)
def test_which_status_withdraws_what_is_stored(status: int, *, gone: bool) -> None:
    assert withdrawn(headers(), ResponseHead(status, headers()), [PLAIN], RULES) == ([()] if gone else [])


CREDENTIALS: dict[str, tuple[dict[str, str], int, dict[str, Any], frozenset[bytes], bool]] = {
    # Request fields, status, the stored answer, which credentials are in the key, and whether it goes.
    "401 to nobody in particular": ({}, 401, {}, frozenset(), True),
    "401 with Authorization": (BASIC, 401, {"rules": PUBLIC}, frozenset(), False),
    "403 with Authorization": (BASIC, 403, {"rules": PUBLIC}, frozenset(), False),
    "403 with a cookie": (COOKIE, 403, {}, frozenset(), False),
    "403 with both, one in the key": (BASIC | COOKIE, 403, {}, frozenset({b"authorization"}), True),
    "403 to whom the key belongs": (BASIC, 403, {}, frozenset({b"authorization"}), True),
    "403 to whom the variant belongs": (COOKIE, 403, {"selecting": ((b"cookie", b"session=x"),)}, frozenset(), True),
    "403 to another than whom the variant belongs": (
        COOKIE, 403, {"selecting": ((b"cookie", b"session=y"),)}, frozenset(), False,
    ),
    "403 for another reason": ({"X-Key": "x"}, 403, {}, frozenset(), True),
    "404 with Authorization": (BASIC, 404, {}, frozenset(), True),
    "410 with a cookie": (COOKIE, 410, {}, frozenset(), True),
    "301 with Authorization": (BASIC, 301, {}, frozenset(), True),
    "200 with Authorization, of what is for all": (BASIC, 200, {"rules": PUBLIC}, frozenset(), True),
    "200 with Authorization, of what is for others": (BASIC, 200, {}, frozenset(), False),
    "200 with a cookie, of what is for all": (COOKIE, 200, {}, frozenset(), True),
    "200 with a cookie, of what is for others": (COOKIE, 200, {"rules": UseRules(explicit=False)}, frozenset(), False),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "status", "stored", "keyed", "gone"), CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_what_is_said_to_credentials(
    asked: dict[str, str], status: int, stored: dict[str, Any], keyed: frozenset[bytes], *, gone: bool
) -> None:
    rules = RouteRules(CacheSettings(), credentials_keyed=keyed)
    found = withdrawn(headers(**asked), ResponseHead(status, headers()), [entry(**stored)], rules)
    assert bool(found) is gone


PARTS: dict[str, tuple[dict[str, str], int, dict[str, str], bool]] = {
    # Request fields, status, response fields, and whether the stored answer goes.
    "a part": ({"Range": "bytes=0-1"}, 206, {}, False),
    "a part of the same": ({"Range": "bytes=0-1"}, 206, {"ETag": 'W/"v1"'}, False),
    "a part of another": ({"Range": "bytes=0-1"}, 206, {"ETag": '"v2"'}, True),
    "a part that is private now": ({"Range": "bytes=0-1"}, 206, {"Cache-Control": "private"}, True),
    "a part that is not to be stored now": ({"Range": "bytes=0-1"}, 206, {"Cache-Control": "no-store"}, True),
    "no such part": ({"Range": "bytes=99-"}, 416, {}, False),
    "no such part, unasked": ({}, 416, {}, True),
    "gone, whatever part": ({"Range": "bytes=0-1"}, 404, {}, True),
    "moved, whatever part": ({"Range": "bytes=0-1"}, 301, {}, True),
    "the whole instead of a part": ({"Range": "bytes=0-1"}, 200, {}, True),
    "the client's copy is good": ({"If-None-Match": '"v0"'}, 304, {}, False),
    "the client's copy of another is good": ({"If-None-Match": '"v2"'}, 304, {"ETag": '"v2"'}, True),
    "a precondition fails": ({"If-Match": '"v0"'}, 412, {}, False),
    "gone, whatever the precondition": ({"If-Match": '"v0"'}, 410, {}, True),
    "too large a request": ({"X": "x" * 5000}, 431, {}, False),
    "a bad request, for its size perhaps": ({"X": "x" * 5000}, 400, {}, False),
    "gone, whatever the size": ({"X": "x" * 5000}, 404, {}, True),
}


@pytest.mark.parametrize(("asked", "status", "sent", "gone"), PARTS.values(), ids=PARTS.keys())
def test_what_is_about_something_that_is_not_in_the_key(
    asked: dict[str, str], status: int, sent: dict[str, str], *, gone: bool
) -> None:
    assert bool(withdrawn(headers(**asked), ResponseHead(status, headers(**sent)), [PLAIN], RULES)) is gone


GERMAN = entry(selecting=((b"accept-language", b"de"),))
ENGLISH = entry(selecting=((b"accept-language", b"en"),))
PACKED = entry(selecting=((b"accept-encoding", b"gzip"),))
VARIANTS = [GERMAN, ENGLISH, PACKED, PLAIN]
ASKS_GERMAN = {"Accept-Language": "de", "Accept-Encoding": "br"}


@pytest.mark.parametrize(
    ("status", "vary", "gone"),
    [
        (404, None, VARIANTS),
        (200, None, VARIANTS),
        (404, "Accept-Language", [GERMAN, PACKED, PLAIN]),
        (404, "Accept-Encoding", VARIANTS),
        (404, "Accept-Language, Accept-Encoding", [GERMAN, PACKED, PLAIN]),
        (404, "X-Other", VARIANTS),
        (404, "*", [GERMAN, PLAIN]),
        (200, "*", [GERMAN, PLAIN]),
        (406, None, [GERMAN, PLAIN]),
    ],
)
def test_which_variants_are_withdrawn(status: int, vary: str | None, gone: list[Any]) -> None:
    sent = headers() if vary is None else headers(Vary=vary)
    found = withdrawn(headers(**ASKS_GERMAN), ResponseHead(status, sent), VARIANTS, RULES)
    assert found == [each.selecting for each in gone]


def test_a_good_answer_replaces_what_its_request_could_have_been_given() -> None:
    request = headers(**ASKS_GERMAN)
    assert replaced(request, (), VARIANTS) == [GERMAN.selecting]
    assert replaced(request, GERMAN.selecting, VARIANTS) == [()]
    assert replaced(request, None, VARIANTS) == [GERMAN.selecting, ()]
    assert replaced(headers(), (), VARIANTS) == []


@pytest.mark.parametrize(
    ("asked", "status", "standing", "stored"),
    [
        ({}, 200, 200, True), ({}, 404, 200, True), ({}, 403, 200, True),
        ({}, 501, 200, False), ({}, 503, 200, False), ({}, 409, 200, False),
        ({}, 408, 200, False), ({}, 425, 200, False), ({}, 429, 200, False),
        ({}, 429, 429, True), ({}, 501, 502, True), ({}, 429, 503, True), ({}, 429, 404, False),
        (BASIC, 403, 200, False), (COOKIE, 401, 404, False), (BASIC, 403, 401, True), (BASIC, 404, 200, True),
    ],
)  # fmt: skip
def test_what_may_be_stored_in_the_place_of_what(
    asked: dict[str, str], status: int, standing: int, *, stored: bool
) -> None:
    assert replaces(headers(**asked), status, entry(status=standing), RULES) is stored
