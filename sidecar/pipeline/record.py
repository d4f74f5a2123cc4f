"""What is known of a request when it is over: one line of the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.http.heads import Headers, RequestHead
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Attempt, Body, Request, Response


class ExchangeRecord(NamedTuple):
    """One finished request. `duration` is seconds until the response body ended; `bytes_sent` counts its payload
    octets, `attempts` how often the upstream was asked. `upstream_time` is the seconds that these attempts took, each
    up to its head or its failure; `endpoint`, `host:port`, is where the last of them went, or of two side by side the
    one that was taken, "" where there was none. `headers` are the request's fields, `answered` those of the answer,
    None where there are none. `trail` is the attempts, where they are noted.

    `status` is 499 when the client left before a response head. `reason` is an error's label, or "" when nothing
    went wrong; `detail` says it in words. `aborted`: the client did not get a whole response. `error` is what the
    upstream did wrong, whatever the client got; `stale_because` is why a stale answer was given; `fallback` is which
    one answered.
    """

    route: str
    method: str
    target: bytes
    status: int
    source: str
    duration: float
    bytes_sent: int
    request_id: bytes
    client: str
    attempts: int = 0
    upstream_time: float = 0.0
    endpoint: str = ""
    headers: Headers | None = None
    answered: Headers | None = None
    trail: Sequence[Attempt] | None = None
    reason: str = ""
    detail: str = ""
    aborted: bool = False
    error: str = ""
    stale_because: str = ""
    fallback: str = ""


def refusal_record(error: ProxyError, client: str, sent: int, first_line: tuple[str, bytes]) -> ExchangeRecord:
    """The record of octets that are no request; `first_line` is the method and the target that they begin with."""
    method, target = first_line
    return ExchangeRecord(
        "",
        method,
        target,
        error.status,
        error.source.label,
        0.0,
        sent,
        b"",
        client,
        reason=error.reason,
        detail=error.detail,
    )


def unrouted_record(error: ProxyError, request: Request, response: Response, duration: float) -> ExchangeRecord:
    """The record of a request that belongs to no route and got `response`, which says `error`."""
    first_line = request.head.method, request.head.target
    record = refusal_record(error, request.client, octets_sent(request.head, response.body), first_line)
    return record._replace(
        duration=duration,
        request_id=request.request_id,
        headers=request.head.headers,
        answered=response.head.headers,
    )


def octets_sent(head: RequestHead, body: bytes | Body) -> int:
    """Octets of a whole `body` that the answer to `head` has (RFC 9110 §9.3.2: to HEAD none)."""
    return len(body) if isinstance(body, bytes) and head.method != "HEAD" else 0


class Listeners:
    """Tells several of each finished request."""

    __slots__ = ("_all",)

    def __init__(self, *every: AccessLog) -> None:
        self._all = every

    def __call__(self, record: ExchangeRecord) -> None:
        """Tell them of `record`."""
        for listener in self._all:
            listener(record)


class AccessLog(Protocol):
    """Who is told of each finished request. Must neither raise nor wait."""

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of `record`."""
