"""The front door: which route's stack a request goes to. The only place that a reload changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.core.http.forwarding import max_forwards, passed_before
from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.pipeline.errors import LoopDetected, NoRoute
from sidecar.pipeline.message import Response
from sidecar.pipeline.problem import respond
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from sidecar.core.http.heads import RequestHead
    from sidecar.core.routing import RouteTable
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Handler


class Gateway:
    """The `Handler` over all routes.

    `unrouted` is told of requests that no route took, and of their answer; `answered_here` of those that may go no
    further (RFC 9110 §7.6.2), and of theirs.
    """

    __slots__ = ("_answered_here", "_routes", "_stacks", "_unrouted", "_via", "_via_token")

    def __init__(
        self,
        via: str,
        unrouted: Callable[[ProxyError, Request, Response], None],
        answered_here: Callable[[Request, Response], None],
    ) -> None:
        self._via = via
        self._via_token = via.encode()
        self._unrouted = unrouted
        self._answered_here = answered_here
        self._routes: RouteTable | None = None
        self._stacks: Mapping[str, Handler] = {}

    def use(self, routes: RouteTable, stacks: Mapping[str, Handler]) -> None:
        """From now on new requests take these; those under way end where they began."""
        self._routes = routes
        self._stacks = stacks

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """The answer of the stack of the request's route."""
        head = request.head
        if b"via" in head.headers.index and passed_before(head.headers, self._via_token):
            return self._refuse(request, LoopDetected("the request has passed this sidecar before"))
        match = None if self._routes is None else self._routes.match(head)
        if head.method == "OPTIONS" and (match is not None or head.target == b"*") and max_forwards(head) == 0:
            request.route_name = None if match is None else match.route.name
            return self._answer_options(request)
        if match is None:
            return self._refuse(request, NoRoute("" if self._routes is None else advice(self._routes, head)))
        request.route_name = name = match.route.name
        request.rewrite = match.rewrite
        return self._stacks[name].handle(request)

    async def _answer_options(self, request: Request) -> Response:
        """What the final recipient of an OPTIONS request says: which methods it takes (RFC 9110 §9.3.7)."""
        allowed = () if self._routes is None else self._routes.methods(request.head)
        fields = Headers([(b"Allow", ", ".join(allowed).encode()), (b"Content-Length", b"0")])
        request_id = b"X-Request-Id: %b\r\n" % request.request_id
        response = Response(ResponseHead(200, fields), b"", source=Source.SIDECAR, extra=request_id)
        self._answered_here(request, response)
        return response

    async def _refuse(self, request: Request, error: ProxyError) -> Response:
        response = respond(error, request, self._via)
        self._unrouted(error, request, response)
        return response


def advice(routes: RouteTable, head: RequestHead) -> str:
    """Why `routes` have none for `head`, in words, and which are nearest."""
    path = head.target.partition(b"?")[0]
    nearest = routes.nearest(path)
    if not nearest:
        return "no route matches, and none is configured"
    taken_away = routes.taken_away(head)
    why = f"; {taken_away}" if taken_away else ""
    return f"no route matches {path.decode('latin-1')[:200]}{why}; nearest: {', '.join(nearest)}"
