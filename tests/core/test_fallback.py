from __future__ import annotations

import pytest

from sidecar.core.circuit.outcome import Outcome
from sidecar.core.config import Fallback
from sidecar.core.fallback import circuit_name, content_type, replaces_answer, replaces_error, upstream_of
from sidecar.pipeline import errors
from tests.pipeline.test_errors import TABLE

FAILURES = frozenset({500, 503})
REPLACED = {
    errors.CircuitOpen,
    errors.BulkheadFull,
    errors.RateLimited,
    errors.PoolExhausted,
    errors.InjectedAbort,
    errors.ConnectionRefused,
    errors.ConnectionLost,
    errors.Unanswered,
    errors.StaleConnection,
    errors.EarlyAnswerCut,
    errors.DnsFailed,
    errors.TlsFailed,
    errors.ConnectTimeout,
    errors.FirstByteTimeout,
    errors.IdleTimeout,
    errors.TotalTimeout,
    errors.ProtocolError,
}


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_failures_of_the_upstream_and_refusals_are_replaced_and_nothing_else(kind: type[errors.ProxyError]) -> None:
    error = kind("why")
    replaced = replaces_error(error.outcome, error.source.label, error.reason, error.status, FAILURES)
    assert replaced == (kind in REPLACED)


@pytest.mark.parametrize("source", ["bulkhead", "rate_limit", "circuit"])
def test_a_refusal_is_known_by_its_source_whatever_its_status(source: str) -> None:
    assert replaces_error(Outcome.NOT_SENT, source, "any", 429, FAILURES)


@pytest.mark.parametrize(("status", "replaced"), [(503, True), (418, False)])
def test_an_injected_abort_is_replaced_where_an_answer_with_its_status_is(status: int, replaced: object) -> None:
    assert replaces_error(Outcome.FAILURE, "fault", "fault_abort", status, FAILURES) is replaced
    assert replaces_answer("upstream", status, FAILURES) is replaced


def test_what_a_fault_does_to_the_connection_is_not_replaced() -> None:
    assert not replaces_answer("fault", 503, FAILURES)


def test_the_circuit_of_a_fallback_upstream_is_its_implicit_routes_or_has_a_name_that_no_route_has() -> None:
    assert circuit_name("backup", {"backup", "shop"}) == "backup"
    own = circuit_name("backup", {"shop"})
    assert own == "fallback:backup"
    assert (upstream_of(own), upstream_of("backup")) == ("backup", None)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (None, "text/plain; charset=utf-8"),
        ("/a/b.JSON", "application/json"),
        ("/a/b.html", "text/html; charset=utf-8"),
        ("/a/b", "application/octet-stream"),
        ("/a.json/b", "application/octet-stream"),
    ],
)
def test_content_is_of_the_type_that_the_suffix_says(file: str | None, kind: str) -> None:
    assert content_type(file) == kind


def test_a_fallback_knows_its_kind() -> None:
    kinds = [Fallback(body="x"), Fallback(file="/f"), Fallback(upstream="other")]
    assert [(each.kind, each.shown) for each in kinds] == [
        ("static", "static"),
        ("file", "file"),
        ("upstream", "other"),
    ]
