"""GET and DELETE /v1/cache, and what GET /v1/explain says about the cache."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Any

from sidecar.adapters.admin.answers import json_answer, json_long_answer
from sidecar.adapters.admin.bodies import refuse_other_types
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import text, whole
from sidecar.adapters.admin.problems import BodyError, bad_values, unknown
from sidecar.adapters.admin.queries import LONGEST_NUMBER, single, whole_number
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES, request_directives
from sidecar.core.cache.purge_target import UnclearUrl, client_url, purge_prefixes, purge_urls
from sidecar.core.cache.request_policy import bypass
from sidecar.core.config import CacheMode
from sidecar.core.report import rfc3339
from sidecar.core.storage.purging import PurgeRule
from sidecar.pipeline.cache.route import cached_route
from sidecar.pipeline.ports import URLS_TOLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aiohttp import web

    from sidecar.adapters.admin.context import AdminContext
    from sidecar.config.request_explanation import RequestExplanation
    from sidecar.core.cache.purge_target import PurgeTarget
    from sidecar.core.config import Config, RouteConfig
    from sidecar.core.report import Moment
    from sidecar.pipeline.data_plane import PlaneStats
    from sidecar.pipeline.ports import ListedAnswer, RouteEntries
    from sidecar.pipeline.stats import SharedStoreStats
    from sidecar.pipeline.store_decisions import StoreDecision

SELECTORS = {name: {**text(), "minLength": 1} for name in ("route", "url", "prefix", "tag")}


DEFAULT_PAGE = 100
LONGEST_PAGE = 1000
MOST_LOOKS = 128
"""Parts of the store that are looked at for one page."""
LARGEST_PLACE = 10**LONGEST_NUMBER - 1
ENTRY_FILTERS = {
    "route": SELECTORS["route"],
    "prefix": SELECTORS["prefix"],
    "limit": whole(1, LONGEST_PAGE),
    "cursor": whole(0, LARGEST_PLACE),
}


async def show_cache(request: web.Request) -> web.Response:
    """What the store holds, whole and by route, what became of the requests that might have used it, and why the
    answers came into it or not.
    """
    context = request.app[CONTEXT]
    stats = await context.plane.stats()
    store = stats.store
    return json_answer(
        {
            "entries": store.entries,
            "bytes": store.bytes,
            "max_size": context.config().cache.max_size,
            "evictions": _happened(store.evictions),
            **_shared_view(stats.shared_store),
            "routes": _by_route(stats, await context.plane.cache.summarize(), context.moment()),
        }
    )


def _shared_view(shared: SharedStoreStats | None) -> dict[str, object]:
    """What came of the fleet's store behind this one; nothing where there is none."""
    if shared is None:
        return {}
    counts = {"reads": _happened(shared.reads), "writes": _happened(shared.writes)}
    return {"shared": {**counts, "queued": shared.queued}}


def _by_route(stats: PlaneStats, entries: Iterable[RouteEntries], moment: Moment) -> list[dict[str, object]]:
    held = {each.route: each for each in entries}
    counted = {route.name: _happened(route.cache_results) for route in stats.routes}
    results = {name: counts for name, counts in counted.items() if counts}
    decisions = stats.store.decisions
    return [
        {
            "route": route,
            **_held_view(held.get(route), moment),
            "results": results.get(route, {}),
            "answers": {why: number for (name, why), number in decisions.counts.items() if name == route},
            "last": _decision_view(decisions.last(route)),
        }
        for route in sorted(held.keys() | results.keys())
    ]


def _happened(counts: Mapping[str, int]) -> dict[str, int]:
    """Without what stands at 0 for the metrics' sake."""
    return {word: number for word, number in counts.items() if number}


async def explain_storing(context: AdminContext, explanation: RequestExplanation) -> dict[str, object] | None:
    """Whether a request may use the store, under which key, and what became of the last answer to that key; None
    where there is no cache.
    """
    match = explanation.routing.match
    if match is None or match.route.cache.mode is CacheMode.OFF:
        return None
    route = cached_route(match.route, context.config().proxy)
    head = explanation.head
    directives = NO_REQUEST_DIRECTIVES
    if match.route.cache.honor_request_directives:
        directives = request_directives(head.headers)
    past = bypass(head, directives, route.rules, has_content=False, upgrades=b"upgrade" in head.headers)
    key = route.space.key(head)
    stats = await context.plane.stats()
    return {
        "key": key.decode("latin-1"),
        "bypass": past and past.why,
        "last": _decision_view(stats.store.decisions.of(key)),
    }


def _decision_view(decision: StoreDecision | None) -> dict[str, object] | None:
    if decision is None:
        return None
    return {
        "key": decision.key.decode("latin-1"),
        "status": decision.status,
        "stored": decision.stored,
        "why": decision.why,
        "at": rfc3339(decision.at),
    }


def _held_view(held: RouteEntries | None, moment: Moment) -> dict[str, object]:
    if held is None:
        return {"entries": 0, "bytes": 0, "oldest": None, "largest": 0}
    return {
        "entries": held.entries,
        "bytes": held.bytes,
        "oldest": moment.date(held.oldest),
        "largest": held.largest,
    }


async def purge_cache(request: web.Request) -> web.Response:
    """Forget what the query selects; several selectors narrow each other. Before the answer it is gone.

    A URL may be the client's or the upstream's; the answer says whose it was taken for.
    """
    refuse_other_types(request)
    context = request.app[CONTEXT]
    chosen = _selected(request, context)
    targets = _targets(context.config(), chosen)
    done = [await context.plane.cache.purge(**selectors) for selectors in _rules(chosen, targets)]
    purged = sum(one.entries for one in done)
    urls = dict.fromkeys(url.decode("latin-1") for one in done for url in one.urls)
    message = f"cache: {purged} entries purged by {', '.join(f'{name} {value}' for name, value in chosen.items())}"
    meant = {name: [_target_view(target) for target in found] for name, found in targets.items()}
    told: dict[str, object] = {"purged": purged, **({"meant": meant} if meant else {})}
    if any(one.told is not None for one in done):
        told["fleet_told"] = all(one.told for one in done)
    context.events.append(context.moment().wall, "purge", message, details={**chosen, **told})
    return json_answer({**told, "urls": list(urls)[:URLS_TOLD]})


async def list_entries(request: web.Request) -> web.Response:
    """What is stored, page by page; `next` is the `cursor` of the next page. A page may have fewer entries than `limit`
    although more follow: the time for each is bounded.
    """
    context = request.app[CONTEXT]
    config = context.config()
    chosen = {name: value for name in ("route", "prefix") if (value := single(request, name)) is not None}
    if errors := [BodyError(f"?{name}", "is empty") for name, value in chosen.items() if not value]:
        raise bad_values(errors)
    _check_route(chosen.get("route"), context)
    rules = [PurgeRule(**selectors) for selectors in _rules(chosen, _targets(config, chosen))]
    limit = whole_number(request, "limit", 1, LONGEST_PAGE) or DEFAULT_PAGE
    place: int | None = whole_number(request, "cursor", 0, LARGEST_PLACE) or 0
    found: list[ListedAnswer] = []
    for _ in range(MOST_LOOKS):
        if place is None or len(found) == limit:
            break
        answers, place = await context.plane.cache.list_answers(rules, place, limit - len(found))
        found += answers
        await asyncio.sleep(0)
    now, routes = context.moment().monotonic, {route.name: route for route in config.routes}
    entries = (_entry_view(config, routes, answer, now) for answer in found)
    return await json_long_answer({"next": None if place is None else str(place)}, {"entries": entries})


def _entry_view(
    config: Config, routes: Mapping[str, RouteConfig], answer: ListedAnswer, now: float
) -> dict[str, object]:
    route = routes.get(answer.route)
    asked_for = client_url(config, route, answer.url) if route is not None else None
    return {
        "url": answer.url.decode("latin-1"),
        "client_url": None if asked_for is None else asked_for.decode("latin-1"),
        "route": answer.route,
        "age": max(0, int(now - answer.born)),
        "ttl": int(answer.expires_at - now),
        "bytes": answer.size,
        "tags": [tag.decode("latin-1") for tag in answer.tags],
    }


def _targets(config: Config, chosen: dict[str, str]) -> dict[str, list[PurgeTarget]]:
    """What the selectors that are URLs mean. Raises Problem when that is unclear."""
    found = {}
    for name, resolve in (("url", purge_urls), ("prefix", purge_prefixes)):
        if name in chosen:
            try:
                found[name] = resolve(config, chosen[name])
            except UnclearUrl as error:
                raise bad_values([BodyError(f"?{name}", str(error))]) from None
    return found


def _target_view(target: PurgeTarget) -> dict[str, object]:
    return {"whose": target.meant.value, "url": target.url.decode("latin-1"), "route": target.route}


def _rules(chosen: dict[str, str], targets: dict[str, list[PurgeTarget]]) -> Iterator[dict[str, Any]]:
    """The selectors of a store's purges: one for each that the given URLs mean."""
    given = {"tag": chosen["tag"].encode()} if "tag" in chosen else {}
    for meant in product(*([(name, target) for target in found] for name, found in targets.items())):
        routes = {route for route in (chosen.get("route"), *(target.route for _, target in meant)) if route is not None}
        if len(routes) <= 1:
            yield {**given, "route": next(iter(routes), None), **{name: target.url for name, target in meant}}


def _selected(request: web.Request, context: AdminContext) -> dict[str, str]:
    """The selectors of the query. Raises Problem unless there is one, each says something, and none is given twice."""
    errors = [BodyError(f"?{name}", "is empty") for name in SELECTORS if single(request, name) == ""]
    if not request.query:
        errors.append(BodyError("?", f"say what to purge: one of {', '.join(SELECTORS)}"))
    if errors:
        raise bad_values(errors)
    _check_route(request.query.get("route"), context)
    return dict(request.query)


def _check_route(route: str | None, context: AdminContext) -> None:
    known = [config.name for config in context.config().routes]
    if route is not None and route not in known:
        raise unknown("route", route, known)
