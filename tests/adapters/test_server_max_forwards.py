"""Max-Forwards (RFC 9110 §7.6.2) on the wire: OPTIONS ends here at 0 and goes on with one less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

EVERY = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def asked(value: bytes, method: bytes = b"OPTIONS", target: bytes = b"/x") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\nMax-Forwards: %b\r\n\r\n" % (method, target, value)


@pytest.mark.parametrize("target", [b"/x", b"*", b"http://a/x"])
async def test_at_0_it_is_answered_here(start_origin: StartOrigin, start_sidecar: StartSidecar, target: bytes) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(asked(b"0", target=target))

    assert (response.status, response.body, response.get("allow")) == (200, b"", EVERY)
    assert response.get("content-length") == b"0"
    assert await client.is_usable()
    assert origin.lines == ["GET /good"]


async def test_it_is_counted_and_asks_no_circuit(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(await start_origin())
    await sidecar.api("PUT", "/v1/circuits/all/override", {"mode": "forced_open", "reason": "test", "actor": "test"})

    assert [(await sidecar.exchange(asked(value))).status for value in (b"1", b"0", b"0")] == [503, 200, 200]

    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_requests_total", route="all", method="OPTIONS", code="200", source="sidecar") == 2


@pytest.mark.parametrize(
    ("value", "sent"),
    [(b"1", b"0"), (b"10", b"9"), (b"007", b"6"), (b"9" * 40, b"999999999"), (b"-1", b"-1"), (b"x", b"x")],
)
async def test_otherwise_it_goes_on_with_one_less_and_junk_as_it_is(
    start_origin: StartOrigin, start_sidecar: StartSidecar, value: bytes, sent: bytes
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    assert (await sidecar.exchange(asked(value))).status == 200
    assert origin.request.get("max-forwards") == sent


@pytest.mark.parametrize("method", [b"GET", b"POST", b"LIST", b"options"])
async def test_other_methods_do_not_heed_it(
    start_origin: StartOrigin, start_sidecar: StartSidecar, method: bytes
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    assert (await sidecar.exchange(asked(b"0", method))).status == 200
    assert origin.request.get("max-forwards") == b"0"


@pytest.mark.parametrize("value", [b"0", b"1"])
async def test_trace_stays_unknown(start_origin: StartOrigin, start_sidecar: StartSidecar, value: bytes) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    assert (await sidecar.exchange(asked(value, b"TRACE"))).status == 501
    assert origin.requests == []
