"""contract.md §3: what a client gets for each reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.circuit.outcome import Outcome
from sidecar.pipeline import errors
from sidecar.pipeline.errors import (
    CircuitOpen,
    ClientError,
    ConnectionRefused,
    PoolExhausted,
    ProxyError,
    TooManyConnections,
    UpstreamError,
    UpstreamTimeout,
)
from sidecar.pipeline.problem import respond
from sidecar.pipeline.source import Source
from tests.support.stages import request, sent_fields

REQUEST_ERROR = "http_request_error"
UNAVAILABLE = "destination_unavailable"
LIMIT = "connection_limit_reached"
TABLE: dict[type[ProxyError], tuple[int, str, str]] = {
    errors.InternalError: (500, "proxy_internal_error", "internal_error"),
    errors.CircuitOpen: (503, UNAVAILABLE, "circuit_open"),
    errors.GatewayTimeoutByDirective: (504, UNAVAILABLE, "only_if_cached"),
    errors.Draining: (503, UNAVAILABLE, "draining"),
    errors.BadRequest: (400, REQUEST_ERROR, "bad_request"),
    errors.NoRoute: (404, REQUEST_ERROR, "no_route"),
    errors.MethodUnknown: (501, REQUEST_ERROR, "method_not_implemented"),
    errors.CodingUnknown: (501, REQUEST_ERROR, "transfer_coding_not_implemented"),
    errors.VersionUnsupported: (505, REQUEST_ERROR, "version_not_supported"),
    errors.TargetTooLong: (414, REQUEST_ERROR, "target_too_long"),
    errors.HeadTooLarge: (431, REQUEST_ERROR, "headers_too_large"),
    errors.BodyTooLarge: (413, REQUEST_ERROR, "body_too_large"),
    errors.ClientTooSlow: (408, REQUEST_ERROR, "client_timeout"),
    errors.ExpectationFailed: (417, REQUEST_ERROR, "expectation_failed"),
    errors.LoopDetected: (508, "proxy_loop_detected", "loop_detected"),
    errors.ClientGone: (400, REQUEST_ERROR, "client_gone"),
    errors.AnswerUnread: (400, REQUEST_ERROR, "write_timeout"),
    errors.TunnelIdle: (400, REQUEST_ERROR, "tunnel_idle"),
    errors.InjectedAbort: (503, 'proxy_internal_response; details="injected fault: abort"', "fault_abort"),
    errors.InjectedDelay: (504, 'http_response_timeout; details="injected fault: delay"', "fault_delay"),
    errors.InjectedReset: (502, "proxy_internal_error", "fault_reset"),
    errors.PoolExhausted: (503, LIMIT, "pool_exhausted"),
    errors.TooManyConnections: (503, LIMIT, "too_many_connections"),
    errors.BulkheadFull: (503, f'{LIMIT}; details="the bulkhead is full"', "bulkhead_full"),
    errors.RateLimited: (429, 'http_request_denied; details="the rate limit is exceeded"', "rate_limited"),
    errors.DeadlineExceeded: (504, "http_response_timeout", "deadline_exceeded"),
    errors.ConnectionRefused: (502, "connection_refused", "connection_refused"),
    errors.ConnectionLost: (502, "connection_terminated", "connection_terminated"),
    errors.Unanswered: (502, "connection_terminated", "connection_terminated"),
    errors.StaleConnection: (502, "connection_terminated", "connection_terminated"),
    errors.EarlyAnswerCut: (502, "connection_terminated", "early_answer_cut"),
    errors.DnsFailed: (502, "dns_error", "dns_error"),
    errors.TlsFailed: (502, "tls_protocol_error", "tls_protocol_error"),
    errors.ConnectTimeout: (504, "connection_timeout", "connection_timeout"),
    errors.FirstByteTimeout: (504, "http_response_timeout", "http_response_timeout"),
    errors.IdleTimeout: (504, "connection_read_timeout", "connection_read_timeout"),
    errors.TotalTimeout: (504, "http_response_timeout", "total_timeout"),
    errors.ProtocolError: (502, "http_protocol_error", "http_protocol_error"),
}
FAMILIES = {ProxyError, ClientError, UpstreamError, UpstreamTimeout}
"""Never raised themselves."""
SAME_TO_THE_CLIENT = {errors.Unanswered, errors.StaleConnection}
"""Lost connections, told apart by who may repeat the request."""


def every_error(base: type[ProxyError] = ProxyError) -> set[type[ProxyError]]:
    """The classes of the module; adapters may refine one for their own use."""
    known = (error for error in base.__subclasses__() if error.__module__ == base.__module__)
    return {base}.union(*(every_error(error) for error in known))


def problem(body: object) -> dict[str, Any]:
    assert isinstance(body, bytes)
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def test_the_table_is_whole_and_every_reason_is_its_own() -> None:
    assert set(TABLE) == every_error() - FAMILIES
    own = TABLE.keys() - SAME_TO_THE_CLIENT
    assert len({TABLE[error][2] for error in own}) == len(own)


@pytest.mark.parametrize(("error", "row"), TABLE.items(), ids=[error.__name__ for error in TABLE])
def test_each_reason_has_its_status_its_type_and_its_label(error: type[ProxyError], row: tuple[int, str, str]) -> None:
    status, proxy_status, reason = row
    answer = respond(error("why"), None, "edge")
    told = problem(answer.body)
    assert (answer.head.status, told["status"], told["reason"]) == (status, status, reason)
    assert sent_fields(answer).get(b"proxy-status") == f"edge; error={proxy_status}".encode()
    assert answer.head.reason.decode() == told["title"] != ""
    assert told["type"] == f"urn:circuit-sidecar:problem:{reason}"
    assert told["detail"] == "why"


@pytest.mark.parametrize("error", TABLE, ids=lambda error: error.__name__)
def test_only_what_the_upstream_did_or_seems_to_have_done_counts_against_it(error: type[ProxyError]) -> None:
    if issubclass(error, UpstreamError) or error in (errors.InjectedAbort, errors.InjectedDelay):
        assert error.outcome is Outcome.FAILURE
    else:
        assert error.outcome is (Outcome.CANCELLED if error is errors.ClientGone else Outcome.NOT_SENT)


def test_the_connection_closes_where_framing_is_in_doubt_or_nothing_more_is_wanted() -> None:
    stays = {errors.NoRoute, errors.ExpectationFailed}
    closes = {error for error in TABLE if issubclass(error, ClientError)} - stays
    assert {error for error in TABLE if error.closes} == closes | {errors.Draining, TooManyConnections}


@pytest.mark.parametrize(
    ("error", "source"),
    [
        (CircuitOpen(), Source.CIRCUIT),
        (errors.GatewayTimeoutByDirective(), Source.CACHE),
        (PoolExhausted(), Source.ERROR),
    ],
    ids=["circuit", "cache", "error"],
)
def test_who_answered(error: ProxyError, source: Source) -> None:
    answer = respond(error, None, "sidecar")
    assert (answer.source, answer.error) == (source, error)


def test_the_answer_says_which_request_on_which_route_and_is_not_to_be_stored() -> None:
    asked = request()
    asked.route_name = "catalog"
    answer = respond(ConnectionRefused("10.0.0.1:80: refused"), asked, "sidecar")
    told = problem(answer.body)
    assert (told["route"], told["circuit"], told["request_id"]) == ("catalog", "catalog", "r-1")
    fields = sent_fields(answer)
    assert fields.get(b"x-request-id") == b"r-1"
    assert fields.get(b"cache-control") == b"no-store"
    assert fields.get(b"content-type") == b"application/problem+json"
    assert isinstance(answer.body, bytes)
    assert fields.get(b"content-length") == b"%d" % len(answer.body)
    assert fields.get(b"retry-after") is None


def test_octets_that_are_no_request_have_no_route_and_no_id() -> None:
    answer = respond(errors.BadRequest("what?"), None, "sidecar")
    told = problem(answer.body)
    assert (told["route"], told["circuit"]) == (None, None)
    assert "request_id" not in told
    assert b"x-request-id" not in sent_fields(answer)


@pytest.mark.parametrize(
    ("left", "told"),
    [(0.0, b"1"), (-3.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (14.5, b"15"), (300.0, b"300")],
)
def test_retry_after_is_the_time_left_in_whole_seconds_rounded_up_and_at_least_one(left: float, told: bytes) -> None:
    answer = respond(CircuitOpen("open", retry_after=left), None, "sidecar")
    assert sent_fields(answer).get(b"retry-after") == told


@pytest.mark.parametrize("error", [PoolExhausted, TooManyConnections], ids=lambda error: error.__name__)
def test_where_a_limit_of_our_own_refused_asking_again_in_a_second_makes_sense(error: type[ProxyError]) -> None:
    assert sent_fields(respond(error("full"), None, "sidecar")).get(b"retry-after") == b"1"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.ConnectTimeout, "nothing came for 1.5 s (timeouts.connect)"),
        (errors.FirstByteTimeout, "nothing came for 1.5 s (timeouts.first_byte)"),
        (errors.IdleTimeout, "nothing came for 1.5 s (timeouts.idle)"),
        (errors.TotalTimeout, "the exchange was not complete after 1.5 s (timeouts.total)"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_timeout_says_how_long_was_waited_and_which_setting_decided(
    error: type[UpstreamTimeout], sentence: str
) -> None:
    after = error.after(1.5)
    assert type(after) is error
    assert after.detail == str(after) == sentence


@pytest.mark.parametrize("error", TABLE, ids=lambda error: error.__name__)
def test_an_error_is_made_again_for_another_request(error: type[ProxyError]) -> None:
    first = error("why")
    second = first.again()
    assert second is not first
    assert (type(second), second.detail, second.retry_after) == (error, "why", first.retry_after)


def test_a_detail_of_any_text_is_valid_json() -> None:
    odd = 'quote " backslash \\ newline \n \u00e9 \udcff'
    assert problem(respond(errors.NoRoute(odd), None, "sidecar").body)["detail"] == odd
