"""Decisions about responses: what is stored, and how it is refreshed."""

from __future__ import annotations

import pytest

from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES
from sidecar.core.cache.freshness import Arrival
from sidecar.core.cache.key import KeySpace
from sidecar.core.cache.request_policy import KeyedRequest
from sidecar.core.cache.response_policy import (
    Mismatch,
    Pass,
    Refresh,
    ResponseDecision,
    Store,
    on_head,
    on_response,
    on_validation,
    outdated,
    tags,
)
from sidecar.core.cache.rules import RouteRules
from sidecar.core.cache.stored import StoredResponse, UseRules
from sidecar.core.config import CacheMode, CacheSettings, QueryKey, Rewrite
from sidecar.core.http.heads import RequestHead, ResponseHead
from tests.support.stored_entries import BORN, WALL, entry, headers

SPACE = KeySpace(b"r", b"http://u", Rewrite(), QueryKey())
ARRIVAL = Arrival(requested_at=BORN - 1, received_at=BORN, received_wall=WALL)
RULES = RouteRules(CacheSettings(stale_ttl=100.0, max_entry_size=1000))


def asked(method: str = "GET", **fields: str) -> KeyedRequest:
    head = RequestHead(method, b"/a", headers(**fields))
    return KeyedRequest(head, NO_REQUEST_DIRECTIVES, SPACE.key(head), SPACE, "r")


def decide(
    status: int = 200,
    *,
    request: KeyedRequest | None = None,
    length: int | None = None,
    standing: StoredResponse | None = None,
    rules: RouteRules = RULES,
    **fields: str,
) -> ResponseDecision:
    return on_response(request or asked(), ResponseHead(status, headers(**fields)), length, ARRIVAL, rules, standing)


REFUSALS: dict[str, ResponseDecision] = {
    "status is never stored": decide(206, Cache_Control="max-age=5"),
    "method is not GET": decide(request=asked("HEAD"), Cache_Control="max-age=5"),
    "must-understand": decide(599, Cache_Control="max-age=5, must-understand"),
    "no-store": decide(Cache_Control="no-store, max-age=5"),
    "private": decide(Cache_Control="private, max-age=5"),
    "event stream": decide(Cache_Control="max-age=5", Content_Type="text/event-stream; charset=utf-8"),
    "Vary matches no other request": decide(Cache_Control="max-age=5", Vary="*"),
    "Set-Cookie": decide(Cache_Control="max-age=5", Set_Cookie="a=b"),
    "request has Authorization": decide(request=asked(Authorization="x"), Cache_Control="max-age=5"),
    "request has cookies and the response no explicit freshness": decide(
        request=asked(Cookie="x"), Last_Modified="Sun, 09 Sep 2001 01:00:00 GMT"
    ),
    "status needs explicit freshness": decide(302, ETag='"v"'),
    "neither freshness nor validator": decide(),
    "an error about a precondition or a range": decide(request=asked(Range="x"), status=400, Cache_Control="max-age=5"),
    "an error that large request fields may have provoked": decide(
        request=asked(A="x" * 4096), status=400, Cache_Control="max-age=5"
    ),
    "larger than max_entry_size": decide(length=1001, Cache_Control="max-age=5"),
    "an error does not replace a good answer": decide(501, standing=entry(), Cache_Control="max-age=5"),
}


@pytest.mark.parametrize(("why", "decision"), REFUSALS.items())
def test_every_refusal_says_why(why: str, decision: ResponseDecision) -> None:
    assert decision == Pass(why)


@pytest.mark.parametrize("status", [412, 416])
def test_what_answers_a_precondition_or_a_range_is_for_nobody_else(status: int) -> None:
    assert decide(status, Cache_Control="max-age=5") == Pass("an error about a precondition or a range")


@pytest.mark.parametrize("fields", [{"A": "x" * 4095}, {"If_None_Match": '"v"'}])
def test_an_error_to_an_ordinary_request_is_stored(fields: dict[str, str]) -> None:
    assert isinstance(decide(404, request=asked(**fields), Cache_Control="max-age=5"), Store)


def test_an_error_replaces_an_error_or_an_answer_beyond_all_use() -> None:
    old = entry(lifetime=-10_000.0)
    assert isinstance(decide(501, standing=entry(status=502), Cache_Control="max-age=5"), Store)
    assert isinstance(decide(501, standing=old, Cache_Control="max-age=5"), Store)


def test_the_draft_has_all_but_the_body() -> None:
    decision = decide(
        request=asked(A="1, 2"),
        Cache_Control="max-age=60, stale-if-error=7, stale-while-revalidate=8, public",
        Vary="B, A",
        Age="10",
        Date="Sun, 09 Sep 2001 01:46:40 GMT",
        Surrogate_Key="x y",
        Proxy_Status="p",
        Set_Cookie2="c",
    )
    assert isinstance(decision, Store)
    draft = decision.draft
    assert (draft.key, draft.url, draft.route) == (b"r http://u/a", b"http://u/a", "r")
    assert draft.selecting == ((b"a", b"1,2"), (b"b", None))
    assert (draft.born, draft.expires_at, draft.keep_until) == (BORN - 11, BORN + 49, BORN + 57)
    assert draft.rules == UseRules(shared=True, stale_if_error=7.0, stale_while_revalidate=8.0)
    assert draft.tags == (b"x", b"y")
    assert {name for name, _ in draft.head.headers} == {
        b"Cache-Control",
        b"Vary",
        b"Date",
        b"Surrogate-Key",
        b"Set-Cookie2",
    }


def test_an_explicit_stale_while_revalidate_holds_against_s_maxage_only() -> None:
    for directive, kept in (("s-maxage=5", 8.0), ("max-age=5, must-revalidate", None), ("max-age=5, no-cache", None)):
        decision = decide(Cache_Control=f"{directive}, stale-while-revalidate=8")
        assert isinstance(decision, Store)
        assert decision.draft.rules.strict
        assert decision.draft.rules.stale_while_revalidate == kept


@pytest.mark.parametrize(("status", "stored"), [(200, True), (404, True), (302, False), (503, False)])
def test_fallback_mode_stores_what_is_cacheable_by_default(status: int, *, stored: bool) -> None:
    rules = RouteRules(CacheSettings(mode=CacheMode.FALLBACK, ttl=5.0))
    decision = decide(status, rules=rules)
    assert isinstance(decision, Store) is stored
    if isinstance(decision, Store):
        assert decision.draft.expires_at == BORN - 1 + 5


def test_a_304_renews_the_head_and_leaves_the_body() -> None:
    stored = entry(ETag='"v"', Cache_Control="max-age=60", X="1")
    decision = on_validation(asked(), ResponseHead(304, headers(ETag='"v"', X="2", Age="3")), stored, ARRIVAL, RULES)
    assert isinstance(decision, Refresh)
    assert decision.why == ""
    assert decision.stored.body is stored.body
    assert decision.stored.expires_at == BORN - 4 + 60
    assert (decision.stored.head.headers.get(b"x"), decision.stored.head.headers.get(b"age")) == (b"2", None)


def test_a_304_without_date_is_as_of_now() -> None:
    stored = entry(Date="Sun, 09 Sep 2001 00:00:00 GMT", Cache_Control="max-age=60")
    decision = on_validation(asked(), ResponseHead(304, headers()), stored, ARRIVAL, RULES)
    assert isinstance(decision, Refresh)
    assert decision.stored.age(BORN) == 1
    assert decision.stored.head.headers.get(b"date") == b"Sun, 09 Sep 2001 01:46:40 GMT"


def test_a_304_may_end_the_storing() -> None:
    decision = on_validation(asked(), ResponseHead(304, headers(Cache_Control="private")), entry(), ARRIVAL, RULES)
    assert isinstance(decision, Refresh)
    assert decision.why == "private"


def test_a_304_about_another_representation_is_no_use() -> None:
    decision = on_validation(asked(), ResponseHead(304, headers(ETag='"w"')), entry(ETag='"v"'), ARRIVAL, RULES)
    assert decision == Mismatch()


def test_a_head_renews_what_it_is_about() -> None:
    stored = entry(b"abc", Cache_Control="max-age=60", ETag='"v"')
    same = ResponseHead(200, headers(Cache_Control="max-age=90", ETag='"v"', Content_Length="3"))
    decision = on_head(asked("HEAD"), same, stored, ARRIVAL, RULES)
    assert isinstance(decision, Refresh)
    assert decision.stored.expires_at == BORN - 1 + 90
    for other in (headers(Content_Length="4"), headers(ETag='"w"')):
        assert on_head(asked("HEAD"), ResponseHead(200, other), stored, ARRIVAL, RULES) == Mismatch()
    assert on_head(asked("HEAD"), ResponseHead(404, headers()), stored, ARRIVAL, RULES) == Mismatch()


def test_outdated_is_no_longer_fresh_and_otherwise_the_same() -> None:
    stored = entry()
    assert outdated(stored, BORN + 5).expires_at == BORN + 5
    assert outdated(stored, BORN + 500).expires_at == stored.expires_at


def test_tags_come_from_both_fields_each_once() -> None:
    found = tags(headers(Surrogate_Key="a b  a", Cache_Tag="c, d e ,,a"))
    assert found == (b"a", b"b", b"c", b"d e")


def test_what_a_304_has_for_its_asker_alone_is_kept_apart() -> None:
    stored = entry(ETag='"v"', Cache_Control="max-age=60", X_User="old")
    sent = headers(
        Set_Cookie="a=b",
        X_User="alice",
        X="1",
        Age="3",
        Cache_Control='max-age=60, private="x-user, date", no-cache="age"',
    )
    decision = on_validation(asked(), ResponseHead(304, sent), stored, ARRIVAL, RULES)
    assert isinstance(decision, Refresh)
    assert (decision.why, decision.personal) == ("", ((b"Set-Cookie", b"a=b"), (b"X-User", b"alice")))
    assert {b"set-cookie", b"x-user"}.isdisjoint(decision.stored.head.headers.index)
    assert decision.stored.head.headers.get(b"x") == b"1"


@pytest.mark.parametrize("status", [408, 425, 429])
def test_what_asks_for_patience_does_not_replace_a_good_answer(status: int) -> None:
    kept = Pass("an error does not replace a good answer")
    assert decide(status, standing=entry(), Cache_Control="max-age=5") == kept
    assert isinstance(decide(status, standing=entry(status=status), Cache_Control="max-age=5"), Store)
