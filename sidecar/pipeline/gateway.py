"""The front door: which route's stack a request goes to. The only place that a reload changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.core.forwarding import passed_before
from sidecar.pipeline.errors import LoopDetected, NoRoute, respond
from sidecar.pipeline.exchange import NO_REWRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from sidecar.core.http import RequestHead
    from sidecar.core.routing import RouteTable
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Request, Response
    from sidecar.pipeline.ports import Front
    from sidecar.pipeline.ready_answer import Ready

FORGETFUL = 0.05
"""Seconds for which a head that memory had no answer to is not looked up there again: the long way looks anyhow."""


class Plan:
    """What becomes of requests with one head as long as `routes` are in use.

    `stack`: who answers, None when there is no route or the request `loops`. `memory`: who may answer by its head,
    nobody when the answer depends on more; not asked before `forgetful_until`, monotonic seconds.
    """

    __slots__ = ("forgetful_until", "loops", "memory", "name", "rewrite", "routes", "stack")

    def __init__(self, routes: RouteTable | None) -> None:
        self.routes = routes
        self.loops = False
        self.name = ""
        self.rewrite = NO_REWRITE
        self.stack: Front | None = None
        self.memory: Front | None = None
        self.forgetful_until = 0.0


class Gateway:
    """A `Handler` over all routes. `unrouted` is told of requests that no route took, and their answer."""

    __slots__ = ("_routes", "_stacks", "_unrouted", "_via")

    def __init__(self, via: str, unrouted: Callable[[ProxyError, Request, Response], None]) -> None:
        self._via = via
        self._unrouted = unrouted
        self._routes: RouteTable | None = None
        self._stacks: Mapping[str, Front] = {}

    def use(self, routes: RouteTable, stacks: Mapping[str, Front]) -> None:
        """From now on new requests take these; those under way end where they began."""
        self._routes = routes
        self._stacks = stacks

    def recall(self, head: RequestHead, now: float, request_id: bytes, client: str) -> Ready | Response | None:
        """See `Front`."""
        plan = head.plan
        if type(plan) is not Plan or plan.routes is not self._routes:
            plan = self._make_plan(head)
        if plan.memory is None or now < plan.forgetful_until:
            return None
        answer = plan.memory.recall(head, now, request_id, client)
        if answer is None:
            plan.forgetful_until = now + FORGETFUL
        return answer

    def answer_now(self, request: Request) -> Response | None:
        """See `Handler`; also decides on the route, for `answer`."""
        plan = request.head.plan
        if type(plan) is not Plan or plan.routes is not self._routes:
            plan = self._make_plan(request.head)
        stack = plan.stack
        if stack is None:
            return self._refuse(request, loops=plan.loops)
        request.route_name = plan.name
        request.rewrite = plan.rewrite
        request.handler = stack
        return stack.answer_now(request)

    def answer(self, request: Request) -> Coroutine[Any, Any, Response]:
        """See `Handler`."""
        assert request.handler is not None
        return request.handler.answer(request)

    def _make_plan(self, head: RequestHead) -> Plan:
        head.plan = plan = Plan(self._routes)
        via = b"via" in head.headers.index
        if via and passed_before(head.headers, self._via.encode()):
            plan.loops = True
            return plan
        match = None if self._routes is None else self._routes.match(head)
        if match is None:
            return plan
        plan.name = match.route.name
        plan.rewrite = match.rewrite
        plan.stack = stack = self._stacks[plan.name]
        if not via and match.rewrite is match.route.rewrite:
            plan.memory = stack
        return plan

    def _refuse(self, request: Request, *, loops: bool) -> Response:
        error: ProxyError
        if loops:
            error = LoopDetected("the request has passed this sidecar before")
        else:
            assert self._routes is not None
            error = NoRoute(self._advice(self._routes, request))
        response = respond(error, request, self._via)
        self._unrouted(error, request, response)
        return response

    def _advice(self, routes: RouteTable, request: Request) -> str:
        path = request.head.target.partition(b"?")[0]
        nearest = routes.nearest(path)
        if not nearest:
            return "no route matches, and none is configured"
        taken_away = routes.taken_away(request.head)
        why = f"; {taken_away}" if taken_away else ""
        return f"no route matches {path.decode('latin-1')[:200]}{why}; nearest: {', '.join(nearest)}"
