"""The fallbacks around everything that may answer: what is said in the place of an upstream that cannot answer.

They are tried in the order of the configuration. A fixed answer always answers; another upstream is asked through its
own circuit, and its failure leads to the next. When none answers, the client gets what it would have got without any.
Whatever happens, the circuit of the route has learned of the failure within, and the cache keeps nothing of this.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.config import RetrySettings
from sidecar.core.fallback import content_type, replaces_answer, replaces_error
from sidecar.core.http.framing import NO_CONTENT
from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.pipeline.cache.collect import drain_quietly
from sidecar.pipeline.deadline_stage import clients_deadline
from sidecar.pipeline.errors import ProxyError, UpstreamError, forget_frames
from sidecar.pipeline.kept_body import KeptBody
from sidecar.pipeline.message import ONLY_ATTEMPT, Body, Response, StandIn
from sidecar.pipeline.problem import proxy_status
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from sidecar.core.config import Fallback
    from sidecar.pipeline.fallback_sources import StandInUpstream
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Handler, Spawn
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats

SHOWN_BY = b"X-Sidecar-Fallback"
"""Response field with which fallback answered."""
LONGEST_DRAINED = 64 * 1024
"""Octets of a replaced answer that are read to keep its connection."""


class _Failure(NamedTuple):
    """What is replaced: an error's or an answer's facts for Proxy-Status and log; `answer` is held until it is known
    that it is not needed. `unsent`: nothing of the request has reached the upstream; `early`: the answer came while the
    request was still being sent, and may be read still.
    """

    error: str
    detail: str
    proxy_status: str
    status: int | None = None
    answer: Response | None = None
    early: bool = False
    unsent: bool = False


class FallbackStage:
    """A `Handler` that answers where the stages within fail."""

    __slots__ = (
        "_asks_upstreams", "_failures", "_fallbacks", "_inner", "_max_body", "_monotonic", "_sources", "_spawn",
        "_stats", "_total", "_via",
    )  # fmt: skip

    def __init__(self, inner: Handler, fallbacks: tuple[Fallback, ...], parts: RouteParts) -> None:
        self._inner = inner
        self._fallbacks = tuple(_prepared(fallback) for fallback in fallbacks)
        self._asks_upstreams = any(fallback.upstream is not None for fallback in fallbacks)
        self._failures = parts.route.breaker.failures
        self._max_body = (parts.route.retry or RetrySettings()).max_body
        self._sources = parts.shared.fallbacks
        self._spawn: Spawn = parts.shared.spawn
        self._stats: RouteStats = parts.stats
        self._via = parts.shared.proxy.via
        self._total = parts.route.timeouts.total
        self._monotonic = parts.shared.clock.monotonic

    async def handle(self, request: Request) -> Response:
        """The answer of the stages within, or a fallback's. Raises what they raise when no fallback answers."""
        kept = None
        if self._asks_upstreams and isinstance(request.body, Body):
            kept = KeptBody(request.body, self._max_body)
            request.body = kept.from_start()
        try:
            try:
                response = await self._inner.handle(request)
            except ProxyError as error:
                return await self._instead_of_error(request, kept, error)
            if response.head.status in self._failures:
                return await self._instead_of_answer(request, kept, response)
            return response
        finally:
            if kept is not None:
                kept.settle()

    async def _instead_of_error(self, request: Request, kept: KeptBody | None, error: ProxyError) -> Response:
        """A fallback's answer; raises `error` where there is none."""
        if _is_replaced(error, self._failures):
            detail = f"{error.reason}: {error.detail}" if error.detail else error.reason
            unsent = request.attempts == 0 or (isinstance(error, UpstreamError) and error.unsent)
            failure = _Failure(error.reason, detail, error.proxy_status, unsent=unsent)
            answer = await self._stand_in(request, kept, failure)
            if answer is not None:
                # The client has its answer; the traceback would hold all that the request passed.
                forget_frames(error)
                return answer
        raise error

    async def _instead_of_answer(self, request: Request, kept: KeptBody | None, response: Response) -> Response:
        """A fallback's answer; `response` where there is none."""
        status = response.head.status
        if not replaces_answer(response.source.label, status, self._failures):
            return response
        detail = f"the upstream answered {status}"
        early = kept is not None and not kept.whole
        failure = _Failure(f"status_{status}", detail, "destination_unavailable", status, response, early)
        try:
            answer = await self._stand_in(request, kept, failure)
        except BaseException:
            _close(response)
            raise
        if answer is None:
            return response
        self._drain(response)
        return answer

    async def _stand_in(self, request: Request, kept: KeptBody | None, failure: _Failure) -> Response | None:
        for fallback, head in self._fallbacks:
            if fallback.upstream is None:
                answer = self._fixed(request, fallback, head)
            else:
                answer = await self._ask(request, kept, failure, self._sources.upstreams.get(fallback.upstream))
            if answer is not None:
                self._stats.fallbacks[fallback.kind] += 1
                return self._marked(answer, fallback.shown, failure)
        return None

    def _fixed(self, request: Request, fallback: Fallback, head: ResponseHead) -> Response | None:
        """An answer that does not depend on the request: preconditions and ranges are about the upstream's
        representations, and a server may ignore them (RFC 9110 §13.2.1, §14.2).
        """
        body = fallback.body.encode() if fallback.file is None else self._sources.files.get(fallback.file)
        if body is None:
            return None
        lines = b"X-Request-Id: %b\r\n" % request.request_id
        if head.status in NO_CONTENT:
            return Response(head, b"", extra=lines)
        return Response(head, body, extra=b"Content-Length: %d\r\n" % len(body) + lines, prepared=head.octets)

    async def _ask(
        self, request: Request, kept: KeptBody | None, failure: _Failure, upstream: StandInUpstream | None
    ) -> Response | None:
        """The answer of another upstream; None when it has none, or the request's body cannot be sent again."""
        if upstream is None or failure.early:
            return None
        if not self._may_send_again(request, kept, failure):
            return None
        asked = self._asked(request, upstream)
        if kept is not None:
            asked.body = kept.from_start()
        try:
            response = await upstream.handler.handle(asked)
        except ProxyError as error:
            if not _is_replaced(error, upstream.failures):
                raise
            return None
        finally:
            request.account_for(asked)
        if response.head.status in upstream.failures:
            self._drain(response)
            return None
        if SHOWN_BY.lower() in response.head.headers.index:
            # Another sidecar fell back; what answered here is this upstream.
            response.head = replace(response.head, headers=response.head.headers.without({SHOWN_BY.lower()}))
        return response

    def _may_send_again(self, request: Request, kept: KeptBody | None, failure: _Failure) -> bool:
        if isinstance(request.body, bytes):
            return failure.unsent or len(request.body) <= self._max_body
        return kept is not None and kept.replayable

    def _asked(self, request: Request, upstream: StandInUpstream) -> Request:
        """The request as `upstream` is asked: with all of its own time, within the client's deadline, and as often as
        it says itself.
        """
        now, clients = self._monotonic(), clients_deadline(request, self._total)
        asked = request.twin()
        asked.started = now
        asked.deadline = min(request.deadline if clients else inf, now + upstream.total)
        asked.repeat, asked.endpoint = ONLY_ATTEMPT, None
        asked.on_half_close, request.on_half_close = None, asked.half_close
        return asked

    def _drain(self, response: Response) -> None:
        """Let the circuit learn how an answer ends that no client gets."""
        if isinstance(response.body, Body):
            self._spawn(drain_quietly(response.body, LONGEST_DRAINED), name="drain a replaced answer")

    def _marked(self, answer: Response, shown: str, failure: _Failure) -> Response:
        """`answer`, which says that it is a fallback, and why."""
        answer.source = Source.FALLBACK
        answer.stand_in = StandIn(shown, failure.error, failure.detail)
        said = proxy_status(self._via, failure.proxy_status, failure.detail, failure.status)
        answer.extra += b"Proxy-Status: %b\r\n%b: %b\r\n" % (said, SHOWN_BY, shown.encode())
        return answer


def _is_replaced(error: ProxyError, failures: AbstractSet[int]) -> bool:
    return replaces_error(error.outcome, error.source.label, error.reason, error.status, failures)


def _prepared(fallback: Fallback) -> tuple[Fallback, ResponseHead]:
    """A fallback, and the head of its fixed answer, but for what is about one request."""
    headers: Mapping[str, str | None] = dict(fallback.headers)
    usual: dict[str, str | None] = {"cache-control": "no-store"}
    if fallback.body or fallback.file is not None:
        usual["content-type"] = content_type(fallback.file)
    fields = [(name.encode(), value.encode()) for name, value in {**usual, **headers}.items() if value is not None]
    return fallback, ResponseHead(fallback.status, Headers(fields))


def _close(response: Response) -> None:
    if isinstance(response.body, Body):
        response.body.close()


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The fallbacks of the route around `inner`, if it has any."""
    fallbacks = parts.route.fallback
    return FallbackStage(inner, fallbacks, parts) if fallbacks else inner
