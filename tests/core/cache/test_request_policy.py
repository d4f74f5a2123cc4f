"""Decisions about requests and failures. Whole exchanges are in tests/pipeline/cache/test_reuse.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES, RequestDirectives, request_directives
from sidecar.core.cache.request_policy import (
    Bypass,
    Fetch,
    RequestDecision,
    Revalidate,
    Serve,
    Unavailable,
    bypass,
    on_request,
    stale_allowance,
    stands_in,
)
from sidecar.core.cache.rules import RouteRules
from sidecar.core.cache.sharing import may_use
from sidecar.core.cache.status import Forward
from sidecar.core.cache.stored import StoredResponse, UseRules
from sidecar.core.config import CacheMode, CacheSettings, StalePolicy
from sidecar.core.http.heads import Headers, RequestHead
from tests.support.stored_entries import BORN, entry, headers

STANDARD = RouteRules(CacheSettings(stale_ttl=100.0), failures=frozenset({500, 503}))
FRESH_AT, STALE_AT = BORN + 59, BORN + 61


def decide(stored: StoredResponse | None, now: float, rules: RouteRules = STANDARD, **asks: str) -> RequestDecision:
    request = headers(**asks)
    return on_request(request, request_directives(request), [] if stored is None else [stored], rules, now)


def test_the_decision_says_what_and_why() -> None:
    stored = entry()
    variant = entry(selecting=((b"a", b"1"),))
    personal = entry(rules=UseRules(explicit=False))
    assert decide(None, FRESH_AT) == Fetch(Forward.URI_MISS)
    assert decide(variant, FRESH_AT) == Fetch(Forward.VARY_MISS)
    assert decide(personal, FRESH_AT, Cookie="a") == Fetch(Forward.REQUEST)
    assert decide(stored, FRESH_AT) == Serve(stored)
    assert decide(stored, BORN + 60) == Revalidate(stored, Forward.STALE)
    assert decide(stored, FRESH_AT, Cache_Control="no-cache") == Revalidate(stored, Forward.REQUEST)
    assert decide(None, FRESH_AT, Cache_Control="only-if-cached") == Unavailable()
    assert decide(stored, STALE_AT, Cache_Control="only-if-cached") == Unavailable()
    assert decide(variant, FRESH_AT, Cache_Control="only-if-cached") == Unavailable()


def test_an_answer_that_always_needs_validation_is_never_simply_served() -> None:
    stored = entry(rules=UseRules(always_validate=True, strict=True))
    assert decide(stored, FRESH_AT) == Revalidate(stored, Forward.STALE)
    assert decide(stored, FRESH_AT, Cache_Control="max-stale") == Revalidate(stored, Forward.STALE)


def test_a_stale_answer_is_refreshed_behind_within_its_window() -> None:
    stored = entry(rules=UseRules(stale_while_revalidate=5.0))
    assert decide(stored, BORN + 65) == Serve(stored, refresh=True)
    assert decide(stored, BORN + 65.1) == Revalidate(stored, Forward.STALE)
    assert decide(stored, BORN + 61, Cache_Control="max-age=10") == Revalidate(stored, Forward.STALE)


def test_background_refresh_reaches_as_far_as_standing_in() -> None:
    rules = RouteRules(CacheSettings(stale_ttl=100.0, background_refresh=True))
    stored, strict = entry(), entry(rules=UseRules(strict=True))
    assert decide(stored, BORN + 160, rules) == Serve(stored, refresh=True)
    assert decide(stored, BORN + 161, rules) == Revalidate(stored, Forward.STALE)
    assert decide(strict, BORN + 61, rules) == Revalidate(strict, Forward.STALE)


def test_in_fallback_mode_the_upstream_is_always_asked() -> None:
    rules = RouteRules(CacheSettings(mode=CacheMode.FALLBACK))
    stored = entry()
    assert decide(stored, FRESH_AT, rules) == Revalidate(stored, Forward.BYPASS)
    assert decide(stored, STALE_AT, rules) == Revalidate(stored, Forward.BYPASS)
    assert decide(stored, FRESH_AT, rules, Cache_Control="only-if-cached") == Serve(stored)


def past(head: RequestHead, directives: RequestDirectives = NO_REQUEST_DIRECTIVES, **how: bool) -> Bypass | None:
    rules = RouteRules(CacheSettings(), foreign_fields=frozenset({b"forwarded"}))
    return bypass(head, directives, rules, has_content=how.get("content", False), upgrades=how.get("upgrades", False))


def test_what_goes_past_the_store() -> None:
    get = RequestHead("GET", b"/", Headers())
    assert past(get) is None
    assert past(RequestHead("HEAD", b"/", Headers())) is None
    assert past(RequestHead("POST", b"/", Headers())) == Bypass(Forward.METHOD, "method")
    assert past(RequestHead("FOO", b"/", Headers())) == Bypass(Forward.METHOD, "method")
    assert past(get, content=True) == Bypass(Forward.BYPASS, "request content")
    assert past(get, upgrades=True) == Bypass(Forward.BYPASS, "upgrade")
    assert past(RequestHead("GET", b"/", headers(FORWARDED="x"))) == Bypass(Forward.BYPASS, "unkeyed field")
    assert past(RequestHead("GET", b"/", headers(Connection="close, A", A="x"))) == Bypass(
        Forward.BYPASS, "field withheld by Connection"
    )
    assert past(RequestHead("GET", b"/", headers(Connection="close, TE, A", TE="trailers"))) is None
    assert past(RequestHead("GET", b"/", headers(If_Match="x"))) == Bypass(
        Forward.REQUEST, "precondition for the origin"
    )
    assert past(get, RequestDirectives(no_store=True)) == Bypass(Forward.REQUEST, "no-store asked for")


USES: dict[str, tuple[UseRules, dict[str, str], frozenset[bytes], bool]] = {
    "anonymous": (UseRules(explicit=False), {}, frozenset(), True),
    "Authorization, not shared": (UseRules(), {"Authorization": "x"}, frozenset(), False),
    "Authorization, shared": (UseRules(shared=True), {"Authorization": "x"}, frozenset(), True),
    "Authorization in the key": (UseRules(), {"Authorization": "x"}, frozenset({b"authorization"}), True),
    "cookies, explicit": (UseRules(), {"Cookie": "x"}, frozenset(), True),
    "cookies, not explicit": (UseRules(explicit=False), {"Cookie": "x"}, frozenset(), False),
    "cookies in the key": (UseRules(explicit=False), {"Cookie": "x"}, frozenset({b"cookie"}), True),
}


@pytest.mark.parametrize(("rules", "asks", "keyed", "allowed"), USES.values(), ids=USES.keys())
def test_who_may_have_what(rules: UseRules, asks: dict[str, str], keyed: frozenset[bytes], *, allowed: bool) -> None:
    route = RouteRules(CacheSettings(), credentials_keyed=keyed)
    assert may_use(entry(rules=rules), headers(**asks), route) is allowed


def test_cookies_listed_in_vary_tell_answers_apart() -> None:
    stored = entry(rules=UseRules(explicit=False), selecting=((b"cookie", b"x"),))
    assert may_use(stored, headers(Cookie="x"), STANDARD)


POLICIES: dict[StalePolicy, tuple[float, float, float]] = {
    StalePolicy.ORIGIN: (100.0, 5.0, 500.0),
    StalePolicy.LARGER: (100.0, 100.0, 500.0),
    StalePolicy.ROUTE: (100.0, 100.0, 100.0),
    StalePolicy.ALWAYS: (100.0, 100.0, 500.0),
}


@pytest.mark.parametrize(("policy", "expected"), POLICIES.items())
def test_whose_word_counts_for_how_long(policy: StalePolicy, expected: tuple[float, float, float]) -> None:
    rules = RouteRules(CacheSettings(stale_ttl=100.0, stale_policy=policy))
    allowances = [stale_allowance(entry(rules=UseRules(stale_if_error=own)), rules) for own in (None, 5.0, 500.0)]
    assert tuple(allowances) == expected


RULES = st.builds(
    UseRules,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    *[st.none() | st.sampled_from([0.0, 5.0, 50.0, 500.0])] * 2,
)
DIRECTIVES = st.builds(
    RequestDirectives,
    no_cache=st.booleans(),
    max_age=st.none() | st.sampled_from([0.0, 30.0, 70.0]),
    min_fresh=st.sampled_from([0.0, 10.0]),
    max_stale=st.sampled_from([0.0, 20.0]),
)
TIMES = st.sampled_from([0.0, 1.0, 30.0, 59.0, 60.0, 61.0, 65.0, 80.0, 81.0, 110.0, 160.0, 161.0, 600.0])


@given(RULES, DIRECTIVES, TIMES, st.sampled_from(StalePolicy), st.sampled_from([200, 404, 503]), st.booleans())
def test_no_decision_goes_beyond_what_the_rules_allow(
    rules: UseRules,
    directives: RequestDirectives,
    age: float,
    policy: StalePolicy,
    status: int,
    background: bool,  # noqa: FBT001
) -> None:
    settings = CacheSettings(stale_ttl=100.0, stale_policy=policy, background_refresh=background)
    route = RouteRules(settings, failures=frozenset({503}))
    stored = entry(rules=rules, status=status)
    now, staleness = BORN + age, age - 60
    wanted = not directives.no_cache and (directives.max_age is None or age <= directives.max_age)
    decision = on_request(headers(), directives, [stored], route, now)
    if isinstance(decision, Serve):
        assert wanted
        assert not rules.always_validate or decision.refresh
        fresh_enough = staleness < -directives.min_fresh or staleness < 0 == directives.min_fresh
        window = rules.stale_while_revalidate
        behind = decision.refresh and (background or (window is not None and staleness <= window))
        assert staleness < 0 or not rules.strict or behind
        assert fresh_enough or behind or staleness <= directives.max_stale or staleness == -directives.min_fresh
    if stands_in(stored, directives, route, now):
        assert wanted
        assert status != 503
        own = rules.stale_if_error
        longest = {StalePolicy.ORIGIN: 100.0 if own is None else own, StalePolicy.ROUTE: 100.0}
        assert staleness <= longest.get(policy, max(100.0, own or 0.0))
        assert policy is StalePolicy.ALWAYS or not rules.always_validate
        assert policy is StalePolicy.ALWAYS or staleness < 0 or not rules.strict
