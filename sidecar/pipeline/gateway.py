"""The front door: which route's stack a request goes to. The only place that a reload changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sidecar.core.forwarding import passed_before
from sidecar.pipeline.errors import LoopDetected, NoRoute, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from sidecar.core.http import RequestHead
    from sidecar.core.routing import RouteTable
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Request, Response
    from sidecar.pipeline.ports import Front

FORGETFUL = 0.05
"""Seconds for which a head that memory had no answer to is not looked up there again: the long way looks anyhow."""


class Gateway:
    """A `Handler` over all routes. `unrouted` is told of requests that no route took: (error, request)."""

    __slots__ = ("_routes", "_stacks", "_unrouted", "_via")

    def __init__(self, via: str, unrouted: Callable[[ProxyError, Request], None]) -> None:
        self._via = via
        self._unrouted = unrouted
        self._routes: RouteTable | None = None
        self._stacks: Mapping[str, Front] = {}

    def use(self, routes: RouteTable, stacks: Mapping[str, Front]) -> None:
        """From now on new requests take these; those under way end where they began."""
        self._routes = routes
        self._stacks = stacks

    def recall(self, head: RequestHead, now: float, request_id: bytes, client: str) -> bytes | Response | None:
        """See `Front`."""
        plan = head.plan
        if plan is None or plan[0] is not self._routes:
            plan = head.plan = (self._routes, self._memory_for(head), now)
        stack = cast("Front | None", plan[1])
        if stack is None or now < plan[2]:
            return None
        answer = stack.recall(head, now, request_id, client)
        if answer is None:
            head.plan = (plan[0], stack, now + FORGETFUL)
        return answer

    def _memory_for(self, head: RequestHead) -> Front | None:
        """Whose memory may answer `head`: nobody's when the answer depends on more than its route."""
        if b"via" in head.headers.index or self._routes is None:
            return None
        match = self._routes.match(head)
        if match is None or match.rewrite is not match.route.rewrite:
            return None
        return self._stacks[match.route.name]

    def answer_now(self, request: Request) -> Response | None:
        """See `Handler`; also decides on the route, for `answer`."""
        head = request.head
        if b"via" in head.headers.index and passed_before(head.headers, self._via.encode()):
            return self._refuse(LoopDetected("the request has passed this sidecar before"), request)
        assert self._routes is not None
        match = self._routes.match(head)
        if match is None:
            return self._refuse(NoRoute(self._advice(self._routes, request)), request)
        request.route_name = name = match.route.name
        request.rewrite = match.rewrite
        request.handler = handler = self._stacks[name]
        return handler.answer_now(request)

    def answer(self, request: Request) -> Coroutine[Any, Any, Response]:
        """See `Handler`."""
        assert request.handler is not None
        return request.handler.answer(request)

    def _refuse(self, error: ProxyError, request: Request) -> Response:
        self._unrouted(error, request)
        return respond(error, request, self._via)

    def _advice(self, routes: RouteTable, request: Request) -> str:
        path = request.head.target.partition(b"?")[0]
        nearest = routes.nearest(path)
        if not nearest:
            return "no route matches, and none is configured"
        return f"no route matches {path.decode('latin-1')[:200]}; nearest: {', '.join(nearest)}"
