from __future__ import annotations

import pytest

from sidecar.pipeline.errors import BadRequest, NoRoute
from sidecar.pipeline.problem import respond
from sidecar.pipeline.record import ExchangeRecord, refusal_record, unrouted_record
from tests.support.stages import request


def test_octets_that_are_no_request_are_told_with_what_could_be_read_of_them() -> None:
    record = refusal_record(BadRequest("what?"), "10.0.0.9", 120, ("CONNECT", b"a:443"))

    assert record == ExchangeRecord(
        "", "CONNECT", b"a:443", 400, "error", 0.0, 120, b"", "10.0.0.9", reason="bad_request", detail="what?"
    )


@pytest.mark.parametrize(("method", "has_body"), [("GET", True), ("POST", True), ("HEAD", False)])
def test_a_request_without_a_route_is_told_with_the_octets_of_its_answer(method: str, *, has_body: bool) -> None:
    error, asked = NoRoute("no route matches"), request(b"/nowhere", method)
    response = respond(error, asked, "edge")
    assert isinstance(response.body, bytes)

    record = unrouted_record(error, asked, response, 0.25)

    assert (record.route, record.method, record.target, record.status) == ("", method, b"/nowhere", 404)
    assert record.bytes_sent == (len(response.body) if has_body else 0)
    assert (record.duration, record.request_id, record.reason) == (0.25, b"r-1", "no_route")
