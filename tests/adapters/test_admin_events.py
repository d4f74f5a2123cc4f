import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import TestClient, TestServer

from sidecar.adapters.admin import streams
from sidecar.adapters.admin.events import last_event_id
from sidecar.adapters.admin.streams import MOST_STREAMS
from sidecar.core.circuit.explanation import OverrideMode
from tests.support.admin import Administered
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import ClientResponse
    from aiohttp.web import Application, Request

    Client = TestClient[Request, Application]

STREAM = "/v1/events/stream"


@pytest.fixture
def process() -> Administered:
    return Administered()


@pytest.fixture
async def client(process: Administered) -> "AsyncIterator[Client]":
    async with TestClient(TestServer(process.app())) as client:
        yield client


async def block(response: "ClientResponse") -> dict[str, str]:
    """The next block of the stream, comments under the key ``."""
    async with asyncio.timeout(5):
        lines: list[str] = []
        while (line := (await response.content.readline()).decode()) not in {"\n", ""}:
            lines.append(line.rstrip("\n"))
    return dict(line.split(": ", 1) for line in lines)


async def ids(response: "ClientResponse", count: int) -> list[int]:
    return [int((await block(response))["id"]) for _ in range(count)]


async def opened(client: "Client", last_id: str | None = None) -> "ClientResponse":
    response = await client.get(STREAM, headers={} if last_id is None else {"Last-Event-ID": last_id})
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert await block(response) == {"retry": "2000"}
    return response


async def test_events_tell_what_happened_to_circuits(client: "Client", process: Administered) -> None:
    process.fail("catalog")
    process.now += 1.0
    process.circuits["catalog"].override(OverrideMode.FORCED_CLOSED, "trust me", "alice", 60.0, process.now)
    async with client.get("/v1/events") as response:
        trip, override = (await response.json())["events"]
    assert (trip["id"], trip["kind"], trip["circuit"], trip["at"]) == (
        1,
        "transition",
        "catalog",
        "2025-11-24T16:00:00.000Z",
    )
    assert (trip["details"]["from"], trip["details"]["to"], trip["details"]["cause"]) == (
        "closed",
        "open",
        "failure_threshold",
    )
    assert len(trip["details"]["samples"]) == 5
    assert trip["message"].startswith("circuit catalog: closed → open: ")
    assert (override["id"], override["kind"], override["at"]) == (2, "override", "2025-11-24T16:00:01.000Z")
    assert "trust me" in override["message"]


async def test_concurrent_failures_make_one_event(client: "Client", process: Administered) -> None:
    permits = [process.circuits["orders"].ask(process.now, safe=True) for _ in range(100)]
    assert len(permits) == 100
    process.fail("orders")
    async with client.get("/v1/events") as response:
        assert len((await response.json())["events"]) == 1


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("?limit=2", [4, 5]),
        ("?limit=1", [5]),
        ("?limit=5", [1, 2, 3, 4, 5]),
        ("?limit=1000", [1, 2, 3, 4, 5]),
        ("?limit=007", [1, 2, 3, 4, 5]),
        ("?since=3", [4, 5]),
        ("?since=0", [1, 2, 3, 4, 5]),
        ("?since=5", []),
        ("?since=1&limit=2", [2, 3]),
        ("?limit=2&since=4", [5]),
        ("?since=99", [1, 2, 3, 4, 5]),  # an id of another process, as for a stream
    ],
)
async def test_a_part_of_the_events_can_be_asked_for(
    client: "Client", process: Administered, query: str, listed: list[int]
) -> None:
    for number in range(5):
        process.events.append(0.0, "purge", f"{number}")
    async with client.get(f"/v1/events{query}") as response:
        assert [event["id"] for event in (await response.json())["events"]] == listed


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("circuit=catalog", [1, 4]),
        ("circuit=orders", [2]),
        ("circuit=catalog&limit=1", [4]),
        ("circuit=catalog&since=1", [4]),
        ("circuit=catalog&since=4", []),
        ("circuit=catalog&since=0&limit=1", [1]),
        ("circuit=gone", [3]),  # a circuit that a reload took away still has its events
    ],
)
async def test_the_events_of_a_circuit_can_be_asked_for(
    client: "Client", process: Administered, query: str, listed: list[int]
) -> None:
    for circuit in ("catalog", "orders", "gone", "catalog", None):
        process.events.append(0.0, "transition", "it moved", circuit=circuit)
    async with client.get(f"/v1/events?{query}") as response:
        assert [event["id"] for event in (await response.json())["events"]] == listed


async def test_the_events_of_a_circuit_that_there_never_was_are_no_empty_list(client: "Client") -> None:
    async with client.get("/v1/events?circuit=catalogue") as response:
        assert response.status == 404
        assert "did you mean 'catalog'?" in (await response.json(content_type=None))["detail"]


@pytest.mark.parametrize("name", ["limit", "since"])
@pytest.mark.parametrize(
    "value", ["", "-1", "x", "1.5", "1e3", "+1", "1_0", "%20", "1%20", "%D9%A7", "%C2%B2", "9" * 19]
)
async def test_a_part_that_is_no_number_is_an_error(client: "Client", name: str, value: str) -> None:
    async with client.get(f"/v1/events?{name}={value}") as response:
        assert response.status == 422
        assert [it["pointer"] for it in (await response.json(content_type=None))["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=1&limit=2", "since=1&since=1"])
async def test_a_part_that_cannot_be_is_an_error(client: "Client", query: str) -> None:
    async with client.get(f"/v1/events?{query}") as response:
        assert response.status == 422


async def test_a_stream_begins_with_the_kept_events_and_goes_on_with_new_ones(
    client: "Client", process: Administered
) -> None:
    process.fail("catalog")
    response = await opened(client)
    first = await block(response)
    process.fail("orders")
    second = await block(response)
    assert [(it["id"], it["event"]) for it in (first, second)] == [("1", "transition"), ("2", "transition")]
    async with client.get("/v1/events") as listed:
        assert [json.loads(it["data"]) for it in (first, second)] == (await listed.json())["events"]
    response.close()


async def test_a_reader_resumes_after_the_last_event_it_saw(client: "Client", process: Administered) -> None:
    for number in range(5):
        process.events.append(0.0, "purge", f"{number}")
    response = await opened(client, "3")
    assert await ids(response, 2) == [4, 5]
    response.close()


@pytest.mark.parametrize(
    ("query", "last_id", "told"),
    [("?since=3", None, [4, 5]), ("?since=0", None, [1, 2]), ("?since=3", "4", [5]), ("?since=3", "x", [4, 5])],
)
async def test_a_stream_begins_after_an_id_that_its_url_names_unless_the_reader_knows_a_later_one(
    client: "Client", process: Administered, query: str, last_id: str | None, told: list[int]
) -> None:
    for number in range(5):
        process.events.append(0.0, "purge", f"{number}")
    response = await client.get(STREAM + query, headers={} if last_id is None else {"Last-Event-ID": last_id})
    await block(response)
    assert await ids(response, len(told)) == told
    response.close()


@pytest.mark.parametrize("query", ["since=x", "since=", "since=-1", "since=1&since=2", "limit=1"])
async def test_a_stream_from_nowhere_is_an_error(client: "Client", query: str) -> None:
    async with client.get(f"{STREAM}?{query}") as response:
        assert response.status == 422


@pytest.mark.parametrize("last_id", ["", "0", "99", "-1", "x", "²", "9" * 400])
async def test_an_id_that_was_never_given_starts_from_the_oldest(
    client: "Client", process: Administered, last_id: str
) -> None:
    process.events.append(0.0, "purge", "one")
    process.events.append(0.0, "purge", "two")
    response = await client.get(STREAM, headers={"Last-Event-ID": last_id.encode().decode("latin-1")})
    await block(response)
    assert await ids(response, 2) == [1, 2]
    response.close()


async def test_events_that_come_at_once_are_all_sent_in_order(client: "Client", process: Administered) -> None:
    response = await opened(client)
    for number in range(300):
        process.events.append(0.0, "purge", f"{number}\nwith a line break")
    assert await ids(response, 300) == list(range(1, 301))
    response.close()


async def test_silence_is_filled_with_heartbeats(process: Administered) -> None:
    async with TestClient(TestServer(process.app(heartbeat=0.01))) as client:
        response = await opened(client)
        assert await block(response) == await block(response) == {"": "heartbeat"}
        process.events.append(0.0, "purge", "one")
        while "id" not in (seen := await block(response)):
            assert seen == {"": "heartbeat"}
        response.close()


async def test_a_shutdown_ends_the_streams_at_once(process: Administered) -> None:
    async with TestClient(TestServer(process.app())) as client:
        response = await opened(client)
        await client.server.close()
        assert await response.read() == b""


async def test_a_reader_that_left_is_forgotten(process: Administered) -> None:
    async with TestClient(TestServer(process.app(heartbeat=0.01))) as client:
        response = await opened(client)
        response.close()
        await eventually(lambda: process.events._listeners == [])


async def test_a_reader_that_does_not_read_is_cut_off(
    client: "Client", process: Administered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_WRITE", 0.01)
    response = await opened(client)
    process.events.append(0.0, "purge", "x" * 20_000_000)
    await eventually(lambda: process.events._listeners == [])
    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_streams_are_limited_in_number(client: "Client") -> None:
    responses = [await opened(client) for _ in range(MOST_STREAMS)]
    async with client.get(STREAM) as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        content: dict[str, Any] = await refused.json(content_type=None)
        assert content["reason"] == "too_many_streams"
    for response in responses:
        response.close()


@pytest.mark.parametrize(("field", "last_id"), [("7", 7), ("", 0), ("-7", 0), ("7 ", 0), ("\u0667", 0), ("1" * 19, 0)])
def test_last_event_ids_are_plain_numbers(field: str, last_id: int) -> None:
    assert last_event_id(field) == last_id
