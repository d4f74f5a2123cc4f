"""What is done with a request, given what is stored; and with a stored answer, when the upstream cannot answer.

Decisions are values; the cache stage carries them out. `response_policy` decides about responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.cache.conditional import ORIGIN_PRECONDITIONS, OUR_PRECONDITIONS
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES
from sidecar.core.cache.sharing import CREDENTIALS, may_use
from sidecar.core.cache.status import Forward
from sidecar.core.cache.vary import select
from sidecar.core.config import CacheMode, StalePolicy
from sidecar.core.http.connection_auth import WHY, sends_connection_credentials
from sidecar.core.http.forwarding import withheld

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.directives import RequestDirectives
    from sidecar.core.cache.key import KeySpace
    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.core.config import CacheSettings
    from sidecar.core.http.heads import Headers, RequestHead


@dataclass(slots=True)
class KeyedRequest:
    """A request that the store may know: its head, what it wants of a cache, and under which key of which space; the
    route's name too. Nobody changes it; it is not frozen because making a frozen one takes longer.
    """

    head: RequestHead
    directives: RequestDirectives
    key: bytes
    space: KeySpace
    route: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with `stored`. `refresh`: it is stale, so fetch a new one behind it."""

    stored: StoredResponse
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Revalidate:
    """Ask the upstream whether `stored` is still good; it may stand in if there is no answer."""

    stored: StoredResponse
    reason: Forward


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the upstream: nothing stored is of use."""

    reason: Forward


@dataclass(frozen=True, slots=True)
class Bypass:
    """Ask the upstream without looking at the store or leaving anything in it."""

    reason: Forward
    why: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The client wants a stored answer or none (only-if-cached), and there is none."""


SERVED_METHODS = frozenset({"GET", "HEAD"})
"""Methods that a stored answer may answer (cache.md 9)."""
BY_METHOD = Bypass(Forward.METHOD, "method")
_FETCH = {reason: Fetch(reason) for reason in Forward}

RequestDecision: TypeAlias = Serve | Revalidate | Fetch | Unavailable
"""For a request that does not bypass the store."""


def exceptional_fields(rules: RouteRules) -> frozenset[bytes]:
    """Request fields of which any may keep a GET away from the store, or make it ask for something else than the whole
    of a fresh answer; apart from Authorization and Connection, of which most values do not.
    """
    asking = frozenset({b"cache-control", b"pragma"}) if rules.settings.honor_request_directives else frozenset()
    return rules.foreign_fields | ORIGIN_PRECONDITIONS | OUR_PRECONDITIONS | asking


def bypass(
    head: RequestHead, directives: RequestDirectives, rules: RouteRules, *, has_content: bool, upgrades: bool
) -> Bypass | None:
    """Why a request has no business with the store, if so (cache.md 9, 12)."""
    if head.method not in SERVED_METHODS:
        return BY_METHOD
    index = head.headers.index
    if upgrades:
        return Bypass(Forward.BYPASS, "upgrade")
    if has_content:
        return Bypass(Forward.BYPASS, "request content")
    if not rules.foreign_fields.isdisjoint(index):
        return Bypass(Forward.BYPASS, "unkeyed field")
    if sends_connection_credentials(head.headers):
        return Bypass(Forward.BYPASS, WHY)
    if withheld(head.headers):
        return Bypass(Forward.BYPASS, "field withheld by Connection")
    if not ORIGIN_PRECONDITIONS.isdisjoint(index):
        return Bypass(Forward.REQUEST, "precondition for the origin")
    if directives.no_store:
        return Bypass(Forward.REQUEST, "no-store asked for")
    return None


def on_request(
    request: Headers,
    directives: RequestDirectives,
    variants: Sequence[StoredResponse],
    rules: RouteRules,
    now: float,
) -> RequestDecision:
    """What to do with a GET or HEAD that may use the store (RFC 9111 §4)."""
    stored = select(variants, request)
    if stored is None:
        return _miss(Forward.VARY_MISS if variants else Forward.URI_MISS, directives)
    return on_selected(request, directives, stored, rules, now)


def on_selected(
    request: Headers, directives: RequestDirectives, stored: StoredResponse, rules: RouteRules, now: float
) -> RequestDecision:
    """What to do with a request for which `stored` was selected."""
    own, settings = stored.rules, rules.settings
    if not CREDENTIALS.isdisjoint(request.index) and not may_use(stored, request, rules):
        return _miss(Forward.REQUEST, directives)
    fresh = now < stored.expires_at and not own.always_validate
    if settings.mode is CacheMode.FALLBACK and not directives.only_if_cached:
        # It is the mode that sends it there, however old what is stored may be.
        return Revalidate(stored, Forward.BYPASS)
    if not own.always_validate and (directives is NO_REQUEST_DIRECTIVES or accepted(stored, directives, now)):
        if fresh or (directives.max_stale and _stale_accepted(stored, directives, now)):
            return Serve(stored)
        may_refresh = own.stale_while_revalidate is not None or settings.background_refresh
        if may_refresh and _refresh_behind(stored, rules, now):
            return Serve(stored, refresh=True)
    if directives.only_if_cached:
        return Unavailable()
    return Revalidate(stored, Forward.REQUEST if fresh else Forward.STALE)


def accepted(stored: StoredResponse, directives: RequestDirectives, now: float) -> bool:
    """Whether the client's own directives leave room for `stored`, its staleness apart (RFC 9111 §5.2.1)."""
    if directives.no_cache or directives.max_age == 0:
        return False
    if directives.max_age is not None and now - stored.born > directives.max_age:
        return False
    return not directives.min_fresh or stored.expires_at - now >= directives.min_fresh


def _stale_accepted(stored: StoredResponse, directives: RequestDirectives, now: float) -> bool:
    """Whether the client takes it stale (max-stale), and the origin does not forbid that (RFC 9111 §4.2.4)."""
    return 0 < directives.max_stale >= now - stored.expires_at and not stored.rules.strict


def _refresh_behind(stored: StoredResponse, rules: RouteRules, now: float) -> bool:
    """Whether it may be used once more while a new one is fetched (RFC 5861 §3; cache.md 20)."""
    staleness = now - stored.expires_at
    allowed = stored.rules.stale_while_revalidate
    if allowed is not None and staleness <= allowed:
        return True
    return rules.settings.background_refresh and not stored.rules.strict and staleness <= stale_allowance(stored, rules)


def _miss(reason: Forward, directives: RequestDirectives) -> Fetch | Unavailable:
    return Unavailable() if directives.only_if_cached else _FETCH[reason]


def stands_in(stored: StoredResponse, directives: RequestDirectives, rules: RouteRules, now: float) -> bool:
    """Whether `stored`, which the request may use, stands in for an upstream that cannot answer (cache.md 17, 18)."""
    if directives is not NO_REQUEST_DIRECTIVES and not accepted(stored, directives, now):
        return False
    own, settings = stored.rules, rules.settings
    staleness = now - stored.expires_at
    forbidden = own.always_validate or (own.strict and staleness >= 0)
    if (forbidden and settings.stale_policy is not StalePolicy.ALWAYS) or stored.head.status in rules.failures:
        return False
    if own.stale_if_error is None:
        return staleness <= settings.stale_ttl
    return staleness <= allowance(own.stale_if_error, settings)


def stale_allowance(stored: StoredResponse, rules: RouteRules) -> float:
    """Seconds past expiry for which it may stand in, by whose word counts on the route."""
    return allowance(stored.rules.stale_if_error, rules.settings)


def allowance(stale_if_error: float | None, settings: CacheSettings) -> float:
    """Seconds past expiry, given the response's own stale-if-error (RFC 5861 §4)."""
    if stale_if_error is None or settings.stale_policy is StalePolicy.ROUTE:
        return settings.stale_ttl
    if settings.stale_policy is StalePolicy.ORIGIN:
        return stale_if_error
    return max(stale_if_error, settings.stale_ttl)
