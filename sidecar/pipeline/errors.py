"""Why a request got no upstream answer: one class per reason; `problem` makes responses of them.

The policy (contract.md §3): a class fixes the status, the Proxy-Status error type (RFC 9209 §2.3) and the reason
label that metrics, log and API use; the message says what happened this time. `outcome` is what the circuit learns
from it.
"""

from __future__ import annotations

from typing import ClassVar

from sidecar.core.circuit.outcome import Outcome
from sidecar.pipeline.source import Source


class ProxyError(Exception):
    """A request that the sidecar answers itself, or an answer that it must cut short.

    `retry_after` is in seconds, None where waiting would not help. `detail` is safe to show to the client.
    """

    status: int = 502
    proxy_status: ClassVar[str] = "proxy_internal_error"
    reason: ClassVar[str] = "internal_error"
    outcome: ClassVar[Outcome] = Outcome.NOT_SENT
    source: ClassVar[Source] = Source.ERROR
    details: ClassVar[str] = ""
    """What Proxy-Status says of it beyond its type (RFC 9209 §2.1.2)."""
    closes: ClassVar[bool] = False
    """Whether the client's connection must close because the framing of what follows is in doubt."""
    stale_instead: ClassVar[bool] = False
    """Whether a stored answer may stand in its place (cache.md 17, 18)."""

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after

    def again(self) -> ProxyError:
        """A copy for another request: an exception must not be raised twice, it would gather tracebacks."""
        return type(self)(self.detail)


class InternalError(ProxyError):
    """A defect of the sidecar itself; the log has the traceback."""

    status = 500


class CircuitOpen(ProxyError):
    """The route's circuit refused."""

    status = 503
    proxy_status = "destination_unavailable"
    reason = "circuit_open"
    source = Source.CIRCUIT


class GatewayTimeoutByDirective(ProxyError):
    """`only-if-cached` and nothing usable stored (RFC 9111 §5.2.1.7)."""

    status = 504
    proxy_status = "destination_unavailable"
    reason = "only_if_cached"
    source = Source.CACHE


class Draining(ProxyError):
    """The sidecar is shutting down and takes no new requests."""

    status = 503
    proxy_status = "destination_unavailable"
    reason = "draining"
    closes = True


class InjectedAbort(ProxyError):
    """A fault on the route answers with `status`. For the circuit it is a failure, where the circuit hears of it."""

    status = 503
    proxy_status = "proxy_internal_response"
    reason = "fault_abort"
    outcome = Outcome.FAILURE
    source = Source.FAULT
    details = "injected fault: abort"

    @classmethod
    def answering(cls, status: int) -> InjectedAbort:
        """The error that is answered with `status`."""
        error = cls(f"a fault is injected on this route: it answers {status}")
        error.status = status
        return error


class InjectedDelay(ProxyError):
    """A fault on the route lets the request wait for longer than `timeouts.total` allows. For the circuit it is a
    failure, where the circuit hears of it.
    """

    status = 504
    proxy_status = "http_response_timeout"
    reason = "fault_delay"
    outcome = Outcome.FAILURE
    source = Source.FAULT
    details = "injected fault: delay"


class InjectedReset(ProxyError):
    """A fault on the route ends the client's connection."""

    reason = "fault_reset"
    source = Source.FAULT


# What the client did


class ClientError(ProxyError):
    """The request itself is at fault; the upstream never hears of it."""

    status = 400
    proxy_status = "http_request_error"
    reason = "bad_request"
    closes = True


class BadRequest(ClientError):
    """The request is malformed or could be read in two ways."""


class NoRoute(ClientError):
    """No route matches the request."""

    status = 404
    reason = "no_route"
    closes = False


class MethodUnknown(ClientError):
    """A method that is never forwarded (CONNECT, TRACE), or that is longer than any (RFC 9112 §3)."""

    status = 501
    reason = "method_not_implemented"


class CodingUnknown(ClientError):
    """A transfer coding other than chunked (RFC 9112 §6.1)."""

    status = 501
    reason = "transfer_coding_not_implemented"


class VersionUnsupported(ClientError):
    """A protocol version other than HTTP/1.0 and HTTP/1.1."""

    status = 505
    reason = "version_not_supported"


class TargetTooLong(ClientError):
    """The request target exceeds its limit."""

    status = 414
    reason = "target_too_long"


class HeadTooLarge(ClientError):
    """The request's fields exceed their limit in bytes or in number."""

    status = 431
    reason = "headers_too_large"


class BodyTooLarge(ClientError):
    """The request body exceeds its limit."""

    status = 413
    reason = "body_too_large"


class ClientTooSlow(ClientError):
    """The client did not send what it announced in time."""

    status = 408
    reason = "client_timeout"


class ExpectationFailed(ClientError):
    """An expectation other than 100-continue (RFC 9110 §10.1.1)."""

    status = 417
    reason = "expectation_failed"
    closes = False


class LoopDetected(ClientError):
    """The request has passed this sidecar before (RFC 9110 §7.6.3)."""

    status = 508
    proxy_status = "proxy_loop_detected"
    reason = "loop_detected"


class ClientGone(ClientError):
    """The client went away, or broke its request body off; nobody is left to answer."""

    outcome = Outcome.CANCELLED
    reason = "client_gone"


class AnswerUnread(ClientError):
    """The client took nothing of its answer for too long, and was cut off."""

    reason = "write_timeout"


class TunnelIdle(ClientError):
    """Nothing passed through a tunnel for too long, and it was closed."""

    reason = "tunnel_idle"


# What the sidecar's own limits did


class PoolExhausted(ProxyError):
    """No connection slot came free in time."""

    status = 503
    proxy_status = "connection_limit_reached"
    reason = "pool_exhausted"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, retry_after=1.0)


class TooManyConnections(ProxyError):
    """The listener is at its connection limit."""

    status = 503
    proxy_status = "connection_limit_reached"
    reason = "too_many_connections"
    closes = True

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, retry_after=1.0)


class BulkheadFull(ProxyError):
    """The route has as many requests under way as it may, and no slot came free in time."""

    status = 503
    proxy_status = "connection_limit_reached"
    reason = "bulkhead_full"
    details = "the bulkhead is full"
    source = Source.BULKHEAD
    stale_instead = True

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, retry_after=1.0)


class RateLimited(ProxyError):
    """The route has had as many requests as it may for now."""

    status = 429
    proxy_status = "http_request_denied"
    reason = "rate_limited"
    details = "the rate limit is exceeded"
    source = Source.RATE_LIMIT


class DeadlineExceeded(ProxyError):
    """The deadline of the request passed, and the upstream is not to blame: the client set it, or the time went into
    waiting here.
    """

    status = 504
    proxy_status = "http_response_timeout"
    reason = "deadline_exceeded"


# What the upstream did


class UpstreamError(ProxyError):
    """The upstream could not be reached, did not answer in time, or answered nonsense."""

    outcome = Outcome.FAILURE
    stale_instead = True
    unsent: bool = False
    """There was no connection, so that nothing of the request was sent."""


class ConnectionRefused(UpstreamError):
    """Nothing listens there, or the network is unreachable."""

    proxy_status = "connection_refused"
    reason = "connection_refused"


class ConnectionLost(UpstreamError):
    """The connection was reset or closed before the answer was complete."""

    proxy_status = "connection_terminated"
    reason = "connection_terminated"


class Unanswered(ConnectionLost):
    """The connection ended before the first octet of a response, on a request that stands for itself: another
    connection may take it (RFC 9110 §9.2.2).
    """


class StaleConnection(Unanswered):
    """And it had been kept alive: the request may not have been seen (RFC 9112 §9.3.1)."""


class EarlyAnswerCut(ConnectionLost):
    """The connection ended within an answer that had begun before the request was sent whole.

    TCP resets a connection that is closed while more is coming (RFC 9112 §9.6), so sending too much is enough to get
    here: the circuit goes by the answer's status.
    """

    reason = "early_answer_cut"


class DnsFailed(UpstreamError):
    """The upstream's name does not resolve."""

    proxy_status = "dns_error"
    reason = "dns_error"


class TlsFailed(UpstreamError):
    """The handshake failed or the certificate is not trusted."""

    proxy_status = "tls_protocol_error"
    reason = "tls_protocol_error"


class UpstreamTimeout(UpstreamError):
    """The upstream was too slow. `limit` is the setting that decided so."""

    status = 504
    limit: ClassVar[str] = ""

    @classmethod
    def after(cls, seconds: float) -> UpstreamTimeout:
        """The error that says how long was waited."""
        return cls(f"nothing came for {seconds:g} s ({cls.limit})")


class ConnectTimeout(UpstreamTimeout):
    """No connection within `timeouts.connect`."""

    proxy_status = "connection_timeout"
    reason = "connection_timeout"
    limit = "timeouts.connect"


class FirstByteTimeout(UpstreamTimeout):
    """No complete response head within `timeouts.first_byte`."""

    proxy_status = "http_response_timeout"
    reason = "http_response_timeout"
    limit = "timeouts.first_byte"


class IdleTimeout(UpstreamTimeout):
    """The exchange stood still for `timeouts.idle`."""

    proxy_status = "connection_read_timeout"
    reason = "connection_read_timeout"
    limit = "timeouts.idle"


class TotalTimeout(UpstreamTimeout):
    """The exchange was not complete within `timeouts.total`."""

    proxy_status = "http_response_timeout"
    reason = "total_timeout"
    limit = "timeouts.total"

    @classmethod
    def after(cls, seconds: float) -> UpstreamTimeout:
        """The error that says how long was allowed."""
        return cls(f"the exchange was not complete after {seconds:g} s ({cls.limit})")


class ProtocolError(UpstreamError):
    """What the upstream sent is not a valid HTTP/1.1 response."""

    proxy_status = "http_protocol_error"
    reason = "http_protocol_error"


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that `error`, and what it came from, passed: whoever keeps an error would keep them, and all
    that a request held.
    """
    error.__traceback__ = None
    for origin in (error.__cause__, error.__context__):
        if origin is not None and origin.__traceback__ is not None:
            forget_frames(origin)
