"""The API's calls, and the application that serves them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import hdrs, web

from sidecar.adapters.admin import circuits, configuration, effective, faults, stored
from sidecar.adapters.admin.answers import json_answer, tagged
from sidecar.adapters.admin.bodies import LARGEST_BODY
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import EVENT_STREAM, Entry
from sidecar.adapters.admin.events import PARAMETERS as EVENTS
from sidecar.adapters.admin.events import STREAM_PARAMETERS as STREAM
from sidecar.adapters.admin.events import list_events, stream_events
from sidecar.adapters.admin.explain import PARAMETERS as EXPLAIN
from sidecar.adapters.admin.explain import explain
from sidecar.adapters.admin.guard import Guard, TokenFile
from sidecar.adapters.admin.openapi import document
from sidecar.adapters.admin.pages import asks_for_html, page_answer
from sidecar.adapters.admin.problems import problems_as_json
from sidecar.adapters.admin.queries import with_known_query
from sidecar.adapters.admin.stored import SELECTORS
from sidecar.adapters.admin.streams import Streams
from sidecar.adapters.admin.traffic import TrafficStreams, show_traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sidecar.adapters.admin.context import AdminContext
    from sidecar.adapters.admin.pages import Page

Json: TypeAlias = "Mapping[str, object]"

HOME = "/"


def build_admin(context: AdminContext) -> web.Application:
    """The application of the admin listener."""
    token = TokenFile(context.token_file) if context.token_file is not None else None
    guard = Guard(context.hosts, token, context.pages)
    streams = Streams()
    entries = (*_entries(streams), *_ending(context), *_indexes(lambda: calls, lambda: described))
    described = document(entries)
    calls = {"calls": [{"method": entry.method, "path": entry.path, "meaning": entry.meaning} for entry in entries]}
    # The guard stands inside, so that what it refuses is told like everything else.
    middlewares = [problems_as_json(calls), guard.middleware()]
    app = web.Application(middlewares=middlewares, client_max_size=LARGEST_BODY)
    app[CONTEXT] = context
    app.on_shutdown.append(streams.close)
    app.on_response_prepare.append(_guard_answer)
    for entry in (*entries, *_unlisted(calls, context.pages)):
        call = with_known_query(entry.call, entry.query)
        if entry.method == "GET":
            app.router.add_get(entry.path, call)  # and HEAD
        else:
            app.router.add_route(entry.method, entry.path, call)
    return app


async def _guard_answer(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update({"Server": "sidecar", "X-Content-Type-Options": "nosniff"})


def _entries(streams: Streams) -> tuple[Entry, ...]:
    return (*_of_circuits(), *_of_faults(), *_of_events(streams), *_of_configuration(), *_of_cache())


def _of_circuits() -> Iterator[Entry]:
    one, override = "/v1/circuits/{name}", "/v1/circuits/{name}/override"
    yield Entry("GET", "/v1/circuits", circuits.list_circuits, "every circuit", gives=("circuits",))
    yield Entry("GET", one, circuits.show_circuit, "one circuit, and why it opened last", gives=circuits.SHOWN)
    yield Entry(
        "PUT",
        override,
        circuits.override_circuit,
        "force it: {mode, ttl, reason, actor, scope}",
        body=circuits.OVERRIDE_BODY,
        needs_body=True,
        gives=circuits.SHOWN,
    )
    yield Entry(
        "DELETE",
        override,
        circuits.release_circuit,
        "back to the automatic state",
        query=circuits.SCOPE,
        gives=circuits.SHOWN,
    )
    yield Entry(
        "POST",
        f"{one}/reset",
        circuits.reset_circuit,
        "closed, with an empty window: {reason, actor}",
        body=circuits.RESET_BODY,
        gives=circuits.SHOWN,
    )


def _of_faults() -> Iterator[Entry]:
    one = "/v1/faults/{route}"
    told = "what is injected on purpose, with the seconds left"
    yield Entry("GET", "/v1/faults", faults.list_faults, told, gives=("faults",))
    yield Entry(
        "PUT",
        one,
        faults.inject_fault,
        "inject: {abort, delay, reset, slow_body, match, in_windows, ttl, actor, reason, force}",
        body={"type": "object"},
        needs_body=True,
        gives=("route", "seconds_left"),
    )
    yield Entry(
        "DELETE",
        one,
        faults.end_fault,
        "inject nothing on the route any more",
        body=circuits.RESET_BODY,
        gives=("route", "ended"),
    )


def _of_events(streams: Streams) -> Iterator[Entry]:
    yield Entry(
        "GET",
        "/v1/events",
        list_events,
        "the last 1000 events, or ?limit= of them, those ?since= an id, or of a ?circuit=",
        EVENTS,
        gives=("events",),
    )
    yield Entry(
        "GET",
        "/v1/events/stream",
        partial(stream_events, streams=streams),
        "the same as server-sent events, and what follows",
        STREAM,
        media_type=EVENT_STREAM,
    )
    yield Entry(
        "GET",
        "/v1/traffic",
        show_traffic,
        "what went through in the last ten minutes",
        gives=("at", "bucket_seconds", "sources", "buckets", "lately", "circuits"),
    )
    yield Entry(
        "GET",
        "/v1/traffic/stream",
        TrafficStreams(streams).stream,
        "the newest of it every two seconds, and events, as server-sent events",
        STREAM,
        media_type=EVENT_STREAM,
    )


def _of_configuration() -> Iterator[Entry]:
    changes = ("changed", "unchanged", "needs_restart", "warnings")
    routes, upstreams = (
        "every route with its settings in force",
        "every upstream with its settings in force, and its bulkheads",
    )
    yield Entry("GET", "/v1/routes", effective.list_routes, routes, gives=("routes",))
    yield Entry("GET", "/v1/upstreams", effective.list_upstreams, upstreams, gives=("upstreams",))
    yield Entry("GET", "/v1/config", effective.show_config, "the whole configuration in force", tagged=True)
    yield Entry(
        "POST",
        "/v1/config/check",
        configuration.check_config,
        "what {config}, or the file now, would change",
        body=configuration.CHECK_BODY,
        gives=changes,
    )
    yield Entry("POST", "/v1/config/reload", configuration.reload_config, "use the file as it is now", gives=changes)
    yield Entry("GET", "/v1/info", effective.show_info, "the process")
    yield Entry("GET", "/v1/explain", explain, "what becomes of ?method= and ?url= (and ?header=), and why", EXPLAIN)


def _of_cache() -> Iterator[Entry]:
    yield Entry(
        "GET",
        "/v1/cache",
        stored.show_cache,
        "what the cache holds and what it answered, by route",
        gives=("entries", "bytes", "max_size", "routes"),
    )
    yield Entry(
        "GET",
        "/v1/cache/entries",
        stored.list_entries,
        "what is stored, of a ?route= or under a ?prefix=, ?limit= at a time from a ?cursor= on",
        stored.ENTRY_FILTERS,
        gives=("entries", "next"),
    )
    yield Entry(
        "DELETE",
        "/v1/cache",
        stored.purge_cache,
        "forget ?route=, ?url=, ?prefix= or ?tag=",
        SELECTORS,
        gives=("purged", "urls"),
    )


def _ending(context: AdminContext) -> Iterator[Entry]:
    """For a Job: its main container calls this when it is done, since nobody sends the sidecar a SIGTERM."""
    end = context.end
    if end is not None:

        async def quit_soon(_request: web.Request) -> web.Response:
            asyncio.get_running_loop().call_soon(end)
            return json_answer({"draining": True})

        yield Entry("POST", "/quitquitquit", quit_soon, "end as after SIGTERM: what is in flight is answered")


def _indexes(calls: Callable[[], Json], described: Callable[[], Json]) -> Iterator[Entry]:
    async def listed(_request: web.Request) -> web.Response:
        return json_answer(calls())

    async def openapi(request: web.Request) -> web.Response:
        return tagged(request, json_answer(described()))

    yield Entry("GET", "/v1", listed, "this list", gives=("calls",))
    yield Entry("GET", "/v1/openapi.json", openapi, "the same as an OpenAPI document", gives=("openapi",), tagged=True)


def _unlisted(calls: Json, pages: Mapping[str, Page]) -> Iterator[Entry]:
    """What stands beside the API."""

    async def listed(_request: web.Request) -> web.Response:
        return json_answer(calls)

    async def home(request: web.Request) -> web.Response:
        page = pages.get(HOME) if asks_for_html(request.headers.get(hdrs.ACCEPT, "")) else None
        answer = json_answer(calls) if page is None else page_answer(request, page)
        answer.headers[hdrs.VARY] = hdrs.ACCEPT
        return answer

    async def shown(request: web.Request) -> web.Response:
        return page_answer(request, pages[request.path])

    yield Entry("GET", HOME, home, "the list of calls, or the dashboard for browsers")
    yield Entry("GET", "/v1/", listed, "the list of calls")
    for path in pages.keys() - {HOME}:
        yield Entry("GET", path, shown, "a part of the dashboard")
