"""What is done with a response: stored, used to refresh what is stored, or only passed on (RFC 9111 §3).

Every refusal says why; `explain` and the debug form of Cache-Status repeat it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.cache.conditional import NEVER_UPDATED, updated, validates
from sidecar.core.cache.directives import response_directives
from sidecar.core.cache.freshness import HEURISTICALLY_CACHEABLE, Lifetime, initial_age, lifetime
from sidecar.core.cache.request_policy import allowance
from sidecar.core.cache.stored import Draft, StoredResponse, UseRules, shared_rules
from sidecar.core.cache.superseding import has_large_fields, replaces
from sidecar.core.cache.targeted import effective_directives
from sidecar.core.cache.vary import selecting_values
from sidecar.core.config import CacheMode
from sidecar.core.http.connection_auth import WHY
from sidecar.core.http.date import format_http_date
from sidecar.core.http.forwarding import HOP_BY_HOP
from sidecar.core.http.heads import Headers, ResponseHead

if TYPE_CHECKING:
    from sidecar.core.cache.directives import ResponseDirectives
    from sidecar.core.cache.freshness import Arrival
    from sidecar.core.cache.request_policy import KeyedRequest
    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import Selecting
    from sidecar.core.http.heads import Field

NEVER_COMPLETE = frozenset({206, 304})
UNDERSTOOD = frozenset(HTTPStatus) - NEVER_COMPLETE
"""Statuses whose caching requirements are known here (RFC 9111 §5.2.2.3)."""
NEVER_STORED = HOP_BY_HOP | {b"age", b"set-cookie", b"trailer"}
"""Fields about this connection or this exchange (RFC 9111 §3.1); also every field called Proxy-*."""
TAG_FIELDS = frozenset({b"surrogate-key", b"cache-tag"})
ABOUT_THE_REQUEST = frozenset({412, 416})
"""Statuses that answer a precondition or a range, which are not in the key."""
OF_THIS_EXCHANGE = NEVER_STORED - {b"set-cookie"} | NEVER_UPDATED | {b"date"}
"""Fields of a 304 that its asker has no use for, or gets otherwise."""
FIRST_CLIENT_ERROR = 400


@dataclass(frozen=True, slots=True)
class Store:
    """Keep it once its body is complete. `draft` is the entry, still without body."""

    draft: Draft
    why: str = "stored"


@dataclass(frozen=True, slots=True)
class Refresh:
    """The stored answer is good: `stored` is what it became. `why` is empty when it may stay in the store.

    `personal` are fields of the 304 that are for who asked and are in no store: Set-Cookie, and those that
    `no-cache="…"` and `private="…"` name.
    """

    stored: StoredResponse
    why: str = ""
    personal: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What came is about another representation than the one stored: ask again, for the whole."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Only pass it on."""

    why: str


ResponseDecision: TypeAlias = Store | Pass
ValidationDecision: TypeAlias = Refresh | Mismatch


def never_stored(head: ResponseHead, rules: RouteRules) -> str:
    """Why no answer with this head is stored whatever was asked; "" when there is more to it."""
    if head.connection_bound:
        return WHY
    if head.status in NEVER_COMPLETE:
        return ""
    if rules.targeted:
        directives, _ = effective_directives(head.headers, rules.targeted)
    else:
        directives = response_directives(head.headers.index.get(b"cache-control"))
    if directives.must_understand:
        return ""
    return "no-store" if directives.no_store else "private" if directives.private else ""


def on_response(
    keyed: KeyedRequest,
    head: ResponseHead,
    length: int | None,
    arrival: Arrival,
    rules: RouteRules,
    standing: StoredResponse | None,
) -> ResponseDecision:
    """What to do with a complete answer to `keyed`. `length`: octets of its body if known; `standing`: the stored
    answer that the request could have been given instead.
    """
    if length is not None and length > rules.settings.max_entry_size:
        return Pass("larger than max_entry_size")
    candidate = _Candidate(keyed, head, arrival, rules)
    why = candidate.refusal()
    if not why and standing is not None and arrival.received_at <= standing.keep_until:
        good = replaces(keyed.head.headers, head.status, standing, rules)
        why = "" if good else "an error does not replace a good answer"
    return Pass(why) if why else Store(candidate.draft(head.headers))


def on_validation(
    keyed: KeyedRequest, fresh: ResponseHead, stored: StoredResponse, arrival: Arrival, rules: RouteRules
) -> ValidationDecision:
    """What a 304 to our own precondition makes of `stored` (RFC 9111 §4.3.4)."""
    if not validates(fresh.headers, stored.head.headers):
        return Mismatch()
    dated = with_date(fresh.headers, arrival.received_wall)
    # A cookie that comes with a 304 says nothing about what is stored, and is not for who gets that.
    fields = updated(stored.head.headers, dated.without({b"age", b"set-cookie"}))
    candidate = _Candidate(keyed, ResponseHead(stored.head.status, fields, stored.head.reason), arrival, rules)
    why = candidate.refusal()
    return Refresh(candidate.draft(dated).complete(stored.body), why, candidate.personal(fresh.headers))


def on_head(
    keyed: KeyedRequest, fresh: ResponseHead, stored: StoredResponse, arrival: Arrival, rules: RouteRules
) -> ValidationDecision:
    """What the answer to a HEAD makes of the stored answer to GET (RFC 9111 §4.3.5)."""
    length = fresh.headers.index.get(b"content-length")
    if fresh.status != stored.head.status or length not in (None, b"%d" % len(stored.body)):
        return Mismatch()
    get = replace(keyed, head=replace(keyed.head, method="GET"))
    return on_validation(get, fresh, stored, arrival, rules)


def outdated(stored: StoredResponse, now: float) -> StoredResponse:
    """`stored`, no longer fresh."""
    return replace(stored, expires_at=min(now, stored.expires_at))


def with_date(headers: Headers, wall: float) -> Headers:
    """`headers` with the Date that a recipient adds where the origin did not (RFC 9110 §6.6.1)."""
    return headers if b"date" in headers.index else headers.plus((b"Date", format_http_date(wall)))


class _Candidate:
    """One response, looked at as what might be stored. `refusal` comes first, and what it needs is worked out in it."""

    __slots__ = ("_targeted", "arrival", "directives", "head", "keyed", "lifetime", "rules", "selecting")

    def __init__(self, keyed: KeyedRequest, head: ResponseHead, arrival: Arrival, rules: RouteRules) -> None:
        self.keyed = keyed
        self.head = head
        self.arrival = arrival
        self.rules = rules
        self.directives, self._targeted = effective_directives(head.headers, rules.targeted)
        self.selecting: Selecting | None = ()
        self.lifetime: Lifetime | None = None

    def refusal(self) -> str:
        """Why it is not to be stored; "" when it may be."""
        vary = self.head.headers.index.get(b"vary")
        if vary is not None:
            self.selecting = selecting_values(vary, self.keyed.head.headers)
        forbidden = self._forbidden() or self._provoked()
        if forbidden:
            return forbidden
        ttl = self.rules.settings.ttl
        self.lifetime = lifetime(self.head, self.directives, self.arrival, targeted=self._targeted, ttl=ttl)
        return self._personal() or self._useless()

    def _forbidden(self) -> str:
        head, directives = self.head, self.directives
        understood = head.status in UNDERSTOOD
        if head.connection_bound:
            return WHY
        if head.status < 200 or head.status in NEVER_COMPLETE:
            return "status is never stored"
        if self.keyed.head.method != "GET":
            return "method is not GET"
        if directives.must_understand and not understood:
            return "must-understand"
        if directives.no_store and not directives.must_understand:
            return "no-store"
        if directives.private:
            return "private"
        if head.headers.index.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            return "event stream"
        return "Vary matches no other request" if self.selecting is None else ""

    def _provoked(self) -> str:
        """Why it may be an error that this request alone has brought about, by something that is not in the key."""
        if self.head.status < FIRST_CLIENT_ERROR:
            return ""
        headers = self.keyed.head.headers
        if self.head.status in ABOUT_THE_REQUEST or b"range" in headers:
            return "an error about a precondition or a range"
        return "an error that large request fields may have provoked" if has_large_fields(headers) else ""

    def _personal(self) -> str:
        """Why it may be meant for this one client (cache.md 13)."""
        request = self.keyed.head.headers
        if b"set-cookie" in self.head.headers and not self.rules.settings.store_set_cookie:
            return "Set-Cookie"
        if self.directives.shared:
            return ""
        keyed = self.rules.credentials_keyed
        if b"authorization" in request and b"authorization" not in keyed:
            return "request has Authorization"
        told_apart = keyed | {name for name, _ in self.selecting or ()}
        if b"cookie" in request and b"cookie" not in told_apart and not self._explicit:
            return "request has cookies and the response no explicit freshness"
        return ""

    def _useless(self) -> str:
        """Why it could never be used again."""
        known = self.head.status in HEURISTICALLY_CACHEABLE or self.directives.public
        if not known and not self._explicit:
            return "status needs explicit freshness"
        if self.lifetime is not None or self.rules.settings.mode is CacheMode.FALLBACK:
            return ""
        index = self.head.headers.index
        return "" if b"etag" in index or b"last-modified" in index else "neither freshness nor validator"

    @property
    def _explicit(self) -> bool:
        return self.lifetime is not None and self.lifetime.explicit

    def draft(self, arrived: Headers) -> Draft:
        """The entry without its body. `arrived` are the fields that came with it, Age among them."""
        life = self.lifetime or Lifetime(self.rules.settings.ttl or 0.0, explicit=False)
        born = self.arrival.received_at - initial_age(arrived, self.arrival)
        expires_at = born + life.seconds
        rules = use_rules(self.directives, explicit=life.explicit)
        past = max(allowance(rules.stale_if_error, self.rules.settings), rules.stale_while_revalidate or 0.0)
        return Draft(
            key=self.keyed.key,
            selecting=self.selecting or (),
            head=ResponseHead(self.head.status, self._stored_fields(), self.head.reason),
            born=born,
            expires_at=expires_at,
            keep_until=expires_at + past,
            stored_wall=self.arrival.received_wall,
            rules=rules,
            route=self.keyed.route,
            url=self.keyed.space.named(self.keyed.space.url(self.keyed.head)),
            tags=tags(self.head.headers),
        )

    def personal(self, arrived: Headers) -> tuple[Field, ...]:
        """The fields of a 304 that are for who asked alone."""
        names = (self.directives.unstored_fields | {b"set-cookie"}) - OF_THIS_EXCHANGE
        return tuple(field for field in arrived if field[0].lower() in names)

    def _stored_fields(self) -> Headers:
        """The end-to-end fields that may be replayed (RFC 9111 §3.1; cache.md 13, 16)."""
        drops = NEVER_STORED | self.directives.unstored_fields
        kept = [
            field
            for field in self.head.headers
            if (name := field[0].lower()) not in drops and not name.startswith(b"proxy-")
        ]
        return with_date(Headers(kept), self.arrival.received_wall)


def use_rules(directives: ResponseDirectives, *, explicit: bool) -> UseRules:
    """What `directives` say about the use of the stored answer.

    An explicit stale-while-revalidate holds against the proxy-revalidate that s-maxage merely implies.
    """
    validates_first = directives.must_revalidate or directives.proxy_revalidate or directives.no_cache
    return shared_rules(
        UseRules(
            strict=directives.strict,
            always_validate=directives.no_cache,
            explicit=explicit,
            shared=directives.shared,
            stale_if_error=directives.stale_if_error,
            stale_while_revalidate=None if validates_first else directives.stale_while_revalidate,
        )
    )


def tags(headers: Headers) -> tuple[bytes, ...]:
    """The members of Surrogate-Key (separated by spaces) and of Cache-Tag (by commas), each once."""
    if TAG_FIELDS.isdisjoint(headers.index):
        return ()
    members = headers.index.get(b"surrogate-key", b"").replace(b",", b" ").split()
    members += [tag.strip() for tag in headers.index.get(b"cache-tag", b"").split(b",")]
    return tuple(dict.fromkeys(member for member in members if member))
