"""The API's calls, and the application that serves them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.adapters.admin import circuits, configuration, effective, stored
from sidecar.adapters.admin.answers import json_answer
from sidecar.adapters.admin.bodies import LARGEST_BODY
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.events import PARAMETERS as EVENTS
from sidecar.adapters.admin.events import EventStreams, list_events
from sidecar.adapters.admin.explain import PARAMETERS as EXPLAIN
from sidecar.adapters.admin.explain import explain
from sidecar.adapters.admin.guard import Guard, TokenFile
from sidecar.adapters.admin.problems import Call, problems_as_json
from sidecar.adapters.admin.queries import with_known_query
from sidecar.adapters.admin.stored import SELECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.adapters.admin.context import AdminContext


@dataclass(frozen=True, slots=True)
class Entry:
    """One call: its method, path and meaning, and the parameters that its query may have."""

    method: str
    path: str
    call: Call
    meaning: str
    query: tuple[str, ...] = ()


def build_admin(context: AdminContext) -> web.Application:
    """The application of the admin listener."""
    guard = Guard(context.hosts, TokenFile(context.token_file) if context.token_file is not None else None)
    streams = EventStreams()
    entries = (*_entries(streams), *_ending(context))
    calls = {"calls": [{"method": entry.method, "path": entry.path, "meaning": entry.meaning} for entry in entries]}
    # The guard stands inside, so that what it refuses is told like everything else.
    middlewares = [problems_as_json(calls), guard.middleware()]
    app = web.Application(middlewares=middlewares, client_max_size=LARGEST_BODY)
    app[CONTEXT] = context
    app.on_shutdown.append(streams.close)
    app.on_response_prepare.append(_guard_answer)
    for entry in (*entries, *_indexes(calls)):
        call = with_known_query(entry.call, entry.query)
        if entry.method == "GET":
            app.router.add_get(entry.path, call)  # and HEAD
        else:
            app.router.add_route(entry.method, entry.path, call)
    return app


async def _guard_answer(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update({"Server": "sidecar", "X-Content-Type-Options": "nosniff"})


def _entries(streams: EventStreams) -> tuple[Entry, ...]:
    return (
        Entry("GET", "/v1/circuits", circuits.list_circuits, "every circuit"),
        Entry("GET", "/v1/circuits/{name}", circuits.show_circuit, "one circuit, and why it opened last"),
        Entry("PUT", "/v1/circuits/{name}/override", circuits.override_circuit, "force it: {mode, ttl, reason, actor}"),
        Entry("DELETE", "/v1/circuits/{name}/override", circuits.release_circuit, "back to the automatic state"),
        Entry(
            "POST", "/v1/circuits/{name}/reset", circuits.reset_circuit, "closed, with an empty window: {reason, actor}"
        ),
        Entry(
            "GET", "/v1/events", list_events, "the last 1000 events, or ?limit= of them, or those ?since= an id", EVENTS
        ),
        Entry("GET", "/v1/events/stream", streams.stream, "the same as server-sent events, and what follows"),
        Entry("GET", "/v1/routes", effective.list_routes, "every route with its settings in force"),
        Entry("GET", "/v1/upstreams", effective.list_upstreams, "every upstream with its settings in force"),
        Entry("GET", "/v1/config", effective.show_config, "the whole configuration in force"),
        Entry("POST", "/v1/config/check", configuration.check_config, "what {config}, or the file now, would change"),
        Entry("POST", "/v1/config/reload", configuration.reload_config, "use the file as it is now"),
        Entry("GET", "/v1/info", effective.show_info, "the process"),
        Entry("GET", "/v1/explain", explain, "what becomes of ?method= and ?url= (and ?header=), and why", EXPLAIN),
        Entry("GET", "/v1/cache", stored.show_cache, "what the cache holds and what it answered, by route"),
        Entry("DELETE", "/v1/cache", stored.purge_cache, "forget ?route=, ?url=, ?prefix= or ?tag=", SELECTORS),
    )


def _ending(context: AdminContext) -> Iterator[Entry]:
    """For a Job: its main container calls this when it is done, since nobody sends the sidecar a SIGTERM."""
    end = context.end
    if end is not None:

        async def quit_soon(_request: web.Request) -> web.Response:
            asyncio.get_running_loop().call_soon(end)
            return json_answer({"draining": True})

        yield Entry("POST", "/quitquitquit", quit_soon, "end as after SIGTERM: what is in flight is answered")


def _indexes(calls: Mapping[str, object]) -> Iterator[Entry]:
    async def show(_request: web.Request) -> web.Response:
        return json_answer(calls)

    for path in ("/", "/v1", "/v1/"):
        yield Entry("GET", path, show, "this list")
