"""How old a response is, and for how long it is fresh (RFC 9111 §4.2).

Wall-clock dates are looked at once, when the response arrives. What comes out are durations; from then on only the
monotonic clock counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.cache.directives import delta_seconds
from sidecar.core.http.date import DAY, parse_http_date, year_of

if TYPE_CHECKING:
    from sidecar.core.cache.directives import ResponseDirectives
    from sidecar.core.http.heads import Headers, ResponseHead

HEURISTIC_SHARE = 0.1
HEURISTIC_LIMIT = float(DAY)
HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Final statuses whose responses may be reused without explicit freshness (RFC 9110 §15.1), 206 apart."""


class Arrival(NamedTuple):
    """When a response came: its request went out at `requested_at`, its head was there at `received_at` (monotonic
    seconds), which was `received_wall` seconds after 1970.
    """

    requested_at: float
    received_at: float
    received_wall: float


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds of freshness counted from age zero. `explicit`: the origin itself said so."""

    seconds: float
    explicit: bool


def initial_age(headers: Headers, arrival: Arrival) -> float:
    """The corrected initial age in seconds (RFC 9111 §4.2.3).

    Of a repeated Age the first counts, and an invalid one counts as none (§5.1). Dates have no fractions, so the
    apparent age is counted in whole seconds.
    """
    age = headers.index.get(b"age")
    stated = 0.0 if age is None else delta_seconds(age.partition(b",")[0].strip(b" \t")) or 0.0
    date = date_of(headers, b"date", arrival.received_wall)
    apparent = 0.0 if date is None else max(0.0, float(int(arrival.received_wall) - date))
    return max(apparent, stated + arrival.received_at - arrival.requested_at)


def explicit_lifetime(
    headers: Headers, directives: ResponseDirectives, arrival: Arrival, *, targeted: bool
) -> float | None:
    """The lifetime that the origin gave: s-maxage, max-age, or Expires − Date; None when it gave none (§4.2.1)."""
    if directives.s_maxage is not None:
        return directives.s_maxage
    if directives.max_age is not None:
        return directives.max_age
    if targeted or b"expires" not in headers.index:
        return None
    expires = date_of(headers, b"expires", arrival.received_wall)
    date = date_of(headers, b"date", arrival.received_wall)
    if expires is None:
        return 0.0
    return max(0.0, expires - (arrival.received_wall if date is None else date))


def heuristic_lifetime(headers: Headers, arrival: Arrival) -> float | None:
    """A tenth of the time since it was last modified, at most a day (§4.2.2); None without Last-Modified."""
    modified = date_of(headers, b"last-modified", arrival.received_wall)
    if modified is None:
        return None
    date = date_of(headers, b"date", arrival.received_wall)
    since = (arrival.received_wall if date is None else date) - modified
    return min(HEURISTIC_LIMIT, max(0.0, since * HEURISTIC_SHARE))


def lifetime(
    head: ResponseHead, directives: ResponseDirectives, arrival: Arrival, *, targeted: bool, ttl: float | None
) -> Lifetime | None:
    """How long `head` is fresh: the origin's word, then the heuristic, then the route's `ttl`; None: nobody says.

    The last two apply only where the status, or `public`, allows it.
    """
    explicit = explicit_lifetime(head.headers, directives, arrival, targeted=targeted)
    if explicit is not None:
        return Lifetime(explicit, explicit=True)
    if head.status not in HEURISTICALLY_CACHEABLE and not directives.public:
        return None
    implicit = heuristic_lifetime(head.headers, arrival)
    if implicit is None:
        implicit = ttl
    return None if implicit is None else Lifetime(implicit, explicit=False)


def date_of(headers: Headers, name: bytes, now: float) -> int | None:
    """The date in field `name`, seconds since 1970; None when absent or not a date. `now`: seconds since 1970."""
    value = headers.index.get(name)
    return None if value is None else parse_http_date(value, year_of(now))
