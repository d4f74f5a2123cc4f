"""Who may have an answer that another request brought: a stored one, and a failing one."""

from __future__ import annotations

import pytest

from sidecar.core.cache.rules import RouteRules
from sidecar.core.cache.sharing import may_share, shared_failure
from sidecar.core.config import CacheSettings
from sidecar.core.http.heads import ResponseHead
from tests.support.stored_entries import headers

RULES = RouteRules(CacheSettings())
KEYED = RouteRules(CacheSettings(), credentials_keyed=frozenset({b"cookie"}))
TARGETED = RouteRules(CacheSettings(), targeted=(b"cdn-cache-control",))

CASES: dict[str, tuple[dict[str, str], dict[str, str], RouteRules, object]] = {
    "nothing said": ({}, {}, RULES, ()),
    "by language": ({"A": "1"}, {"Vary": "A"}, RULES, ((b"a", b"1"),)),
    "for nobody else": ({}, {"Vary": "*"}, RULES, None),
    "private": ({}, {"Cache_Control": "private"}, RULES, None),
    "no-store": ({}, {"Cache_Control": "no-store"}, RULES, None),
    "no-cache": ({}, {"Cache_Control": "no-cache"}, RULES, ()),
    "private to a CDN": ({}, {"CDN_Cache_Control": "private"}, TARGETED, None),
    "Set-Cookie": ({}, {"Set_Cookie": "a=b"}, RULES, None),
    "a cookie": ({"Cookie": "a"}, {}, RULES, None),
    "a cookie in the key": ({"Cookie": "a"}, {}, KEYED, ()),
}


@pytest.mark.parametrize(("asked", "sent", "rules", "selecting"), CASES.values(), ids=CASES.keys())
def test_who_may_share_it(asked: dict[str, str], sent: dict[str, str], rules: RouteRules, selecting: object) -> None:
    assert shared_failure(headers(**asked), ResponseHead(503, headers(**sent)), rules) == selecting


@pytest.mark.parametrize(
    ("asked", "rules", "allowed"),
    [
        ({"A": "1"}, RULES, True),
        ({"A": "2"}, RULES, False),
        ({"A": "1", "Cookie": "a"}, RULES, False),
        ({"A": "1", "Cookie": "a"}, KEYED, True),
    ],
)
def test_whether_a_request_shares_it(asked: dict[str, str], rules: RouteRules, *, allowed: bool) -> None:
    assert may_share(((b"a", b"1"),), headers(**asked), rules) is allowed
