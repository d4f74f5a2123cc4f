"""Collapsed forwarding: who shares a fetch, and what happens when it goes wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.core.http.heads import Headers, ResponseHead
from sidecar.pipeline.cache import collapse
from sidecar.pipeline.errors import CircuitOpen, ConnectionLost, ConnectionRefused, DeadlineExceeded, ProxyError
from sidecar.pipeline.message import BodyEnd
from tests.support.cache_world import Answer, Reply, World, read_all, receive

if TYPE_CHECKING:
    from sidecar.pipeline.message import Request

FRESH = {"Cache-Control": "max-age=60", "ETag": '"v1"'}


def crowd(world: World, size: int, **asks: object) -> list[asyncio.Task[Answer]]:
    return [asyncio.ensure_future(world.ask(**asks)) for _ in range(size)]  # type: ignore[arg-type]  # passed through


async def test_a_hundred_requests_for_one_cold_key_make_one_upstream_request() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate))
    clients = crowd(world, 100)
    await world.until(lambda: world.asked == 1)
    gate.set()
    answers = await asyncio.gather(*clients)
    assert world.asked == 1
    assert {answer.body for answer in answers} == {b"content"}
    assert sorted({answer.cache_status for answer in answers}) == [
        "sidecar; fwd=uri-miss; collapsed",
        "sidecar; fwd=uri-miss; stored",
    ]
    assert world.stats.cache_results["collapsed"] == 99


async def test_followers_stream_as_the_answer_arrives() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, pieces=[b"con", gate, b"tent"], length=7))
    leader = await world.send(world.request())
    follower = await world.send(world.request())
    assert not isinstance(leader.body, bytes)
    assert not isinstance(follower.body, bytes)
    assert await follower.body.read() == b"con"
    late = await world.send(world.request())
    assert not isinstance(late.body, bytes)
    gate.set()
    assert await read_all(follower.body) == b"tent"
    assert await read_all(late.body) == b"content"
    assert late.head.headers.get(b"content-length") is None
    assert (await receive(leader)).body == b"content"
    await world.settle()
    assert (world.asked, (await world.ask()).hit) == (1, True)


async def test_the_leaders_cookie_is_not_for_the_followers() -> None:
    world = World(Reply(fields={**FRESH, "Set-Cookie": "a=b"}, pieces=[b"content"]), store_set_cookie=True)
    answers = await asyncio.gather(*crowd(world, 3))
    assert [answer["Set-Cookie"] for answer in answers] == ["a=b", None, None]
    assert world.asked == 1


async def test_a_leader_whose_time_is_over_leaves_the_others_to_ask_for_themselves() -> None:
    gate = asyncio.Event()
    world = World(Reply(error=DeadlineExceeded("late"), gate=gate), Reply(fields=FRESH))
    leader, *others = crowd(world, 3)
    await world.until(lambda: world.asked == 1)
    gate.set()
    with pytest.raises(DeadlineExceeded):
        await leader
    assert {answer.status for answer in await asyncio.gather(*others)} == {200}


async def test_a_leader_that_leaves_does_not_end_the_fetch_for_the_others() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate))
    leader, *others = crowd(world, 5)
    await world.until(lambda: world.asked == 1)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    gate.set()
    assert {answer.body for answer in await asyncio.gather(*others)} == {b"content"}
    assert (world.asked, world.origin.cancelled) == (1, 0)


async def test_a_leader_that_leaves_in_the_body_does_not_end_it_for_the_others() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, pieces=[b"con", gate, b"tent"]))
    leader = await world.send(world.request())
    follower = await world.send(world.request())
    assert not isinstance(leader.body, bytes)
    leader.body.close()
    gate.set()
    assert (await receive(follower)).body == b"content"
    await world.settle()
    assert len(world.store.all()) == 1


async def test_the_fetch_ends_when_nobody_is_left() -> None:
    world = World(Reply(fields=FRESH, gate=asyncio.Event()))
    clients = crowd(world, 5)
    await world.until(lambda: world.asked == 1)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await world.settle()
    assert world.origin.cancelled == 1
    world.origin.replies = [Reply(fields=FRESH)]
    assert (await world.ask()).body == b"content"


async def test_nobody_joins_a_fetch_whose_last_client_has_just_left() -> None:
    world = World(Reply(fields=FRESH, gate=asyncio.Event()), Reply(fields=FRESH))
    (client,) = crowd(world, 1)
    await world.until(lambda: world.asked == 1)

    client.cancel()
    (retry,) = crowd(world, 1)

    assert (await retry).body == b"content"
    assert world.asked == 2
    await world.settle()


async def test_nobody_joins_a_body_whose_last_reader_has_just_left() -> None:
    world = World(Reply(fields=FRESH, pieces=[b"con", asyncio.Event()]), Reply(fields=FRESH))
    first = await world.send(world.request())
    assert not isinstance(first.body, bytes)

    first.body.close()

    assert (await world.ask()).body == b"content"
    assert world.asked == 2
    await world.settle()


async def test_the_body_is_given_up_when_the_last_reader_leaves() -> None:
    never = asyncio.Event()
    world = World(Reply(fields=FRESH, pieces=[b"con", never]))
    readers = [await world.send(world.request()) for _ in range(3)]
    for reader in readers:
        assert not isinstance(reader.body, bytes)
        reader.body.close()
    await world.settle()
    assert world.origin.bodies[0].ends == [BodyEnd.ABANDONED]
    assert world.store.all() == []


@pytest.mark.parametrize("when", ["before the head", "at the head"])
async def test_an_answer_that_comes_as_its_client_leaves_is_given_up(when: str) -> None:
    gate = asyncio.Event()
    world = World(Reply(fields={"Cache-Control": "no-store"}, pieces=[b"x"], gate=gate))
    leader, follower = crowd(world, 2)
    await world.until(lambda: world.asked == 1)
    if when == "before the head":
        leader.cancel()
        await asyncio.gather(leader, return_exceptions=True)
        gate.set()
    else:
        gate.set()
        await world.until(lambda: bool(world.origin.bodies))
        leader.cancel()
    assert (await follower).body == b"x"
    await asyncio.gather(leader, return_exceptions=True)
    assert world.origin.bodies[0].ends in ([BodyEnd.ABANDONED], [BodyEnd.COMPLETE])
    assert all(body.end is not None for body in world.origin.bodies)


async def test_followers_that_leave_as_the_head_lands_leave_the_others_alone() -> None:
    gate, rest = asyncio.Event(), asyncio.Event()
    world = World(Reply(fields=FRESH, pieces=[b"con", rest, b"tent"], gate=gate))
    leader, leaving, staying = crowd(world, 3)
    await world.until(lambda: world.asked == 1)
    gate.set()
    await world.until(lambda: bool(world.origin.bodies))
    leaving.cancel()
    leader.cancel()
    rest.set()
    assert (await staying).body == b"content"
    await asyncio.gather(leader, leaving, return_exceptions=True)
    await world.settle()
    assert len(world.store.all()) == 1


async def test_one_of_several_followers_may_leave_before_the_head() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate))
    leader, leaving, staying = crowd(world, 3)
    await world.until(lambda: world.asked == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.set()
    assert [(await client).body for client in (leader, staying)] == [b"content"] * 2


UNSHARABLE: dict[str, dict[str, str]] = {
    "no-store": {"Cache-Control": "no-store"},
    "private": {"Cache-Control": "private, max-age=60"},
    "Set-Cookie": {"Cache-Control": "max-age=60", "Set-Cookie": "a=b"},
    "nothing said": {},
    "already stale": {"Cache-Control": "max-age=0", "ETag": '"v"'},
    "no-cache": {"Cache-Control": "no-cache", "ETag": '"v"'},
}


@pytest.mark.parametrize("fields", UNSHARABLE.values(), ids=UNSHARABLE.keys())
@pytest.mark.parametrize("pieces", [None, [b"con", b"tent"]], ids=["whole", "in pieces"])
async def test_when_it_cannot_be_shared_all_fetch_at_once_and_the_key_is_remembered(
    fields: dict[str, str], pieces: list[bytes] | None
) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    together: list[int] = []

    def reply(request: Request) -> Reply:  # noqa: ARG001 - the same for all
        together.append(len(together))
        return Reply(fields=fields, pieces=list(pieces) if pieces else None, gate=gates[min(len(together) - 1, 2)])

    world = World(reply)
    clients = crowd(world, 10)
    await world.until(lambda: world.asked == 1)
    gates[0].set()
    await world.until(lambda: world.asked == 10)
    for gate in gates:
        gate.set()
    assert [answer.body for answer in await asyncio.gather(*clients)] == [b"content"] * 10
    before = len(world.tasks)
    again = crowd(world, 10)
    await asyncio.gather(*again)
    assert (world.asked, len(world.tasks)) == (20, before)


async def test_a_key_is_worth_collapsing_again_after_a_while() -> None:
    world = World(Reply(fields={"Cache-Control": "no-store"}), Reply(fields=FRESH))
    await world.ask()
    world.clock.now += collapse.HIT_FOR_MISS
    await asyncio.gather(*crowd(world, 10))
    assert world.asked == 2


async def test_not_more_keys_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "REMEMBERED_KEYS", 2)
    world = World(Reply(fields={"Cache-Control": "no-store"}))
    for target in ("/1", "/2", "/3"):
        await world.ask(target)
    before = len(world.tasks)
    for target in ("/3", "/2"):
        await world.ask(target)
    assert len(world.tasks) == before
    await world.ask("/1")
    assert len(world.tasks) == before + 1


@pytest.mark.parametrize("error", [ConnectionRefused("x"), CircuitOpen("x", retry_after=2.0), ConnectionLost("x")])
async def test_followers_share_the_failure(error: ProxyError) -> None:
    gate = asyncio.Event()
    world = World(Reply(error=error, gate=gate))
    clients = crowd(world, 30)
    await world.until(lambda: world.asked == 1)
    gate.set()
    results = await asyncio.gather(*clients, return_exceptions=True)
    assert [type(result) for result in results] == [type(error)] * 30
    assert world.asked == 1


async def test_followers_share_a_failing_status() -> None:
    gate = asyncio.Event()
    world = World(Reply(503, body=b"down", gate=gate))
    clients = crowd(world, 30)
    await world.until(lambda: world.asked == 1)
    gate.set()
    answers = await asyncio.gather(*clients)
    assert {(answer.status, answer.body) for answer in answers} == {(503, b"down")}
    assert world.asked == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [(Reply(error=ConnectionRefused("x")), "connection_refused"), (Reply(503), "status_503")],
    ids=["refused", "status"],
)
async def test_followers_share_the_stale_answer_and_why_it_stands_in(failure: Reply, error: str) -> None:
    gate = asyncio.Event()
    failure.gate = gate
    world = World(Reply(fields=FRESH), failure)
    await world.ask()
    world.clock.now += 100
    clients = crowd(world, 30)
    await world.until(lambda: world.asked == 2)
    gate.set()
    answers = await asyncio.gather(*clients)
    assert {answer.cache_status for answer in answers} == {"sidecar; hit; ttl=-40; detail=upstream_error"}
    reasons = {answer.response.stand_in for answer in answers}
    assert [(why.because, why.error) for why in reasons if why is not None] == [("upstream_error", error)]
    assert world.asked == 2


async def test_an_answer_cut_short_is_cut_short_for_everybody() -> None:
    world = World(Reply(fields=FRESH, pieces=[b"con", ConnectionLost("cut")]))
    results = await asyncio.gather(*crowd(world, 5), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionLost] * 5
    assert (world.asked, world.store.all()) == (1, [])


async def test_followers_of_another_variant_collapse_among_themselves() -> None:
    gate = asyncio.Event()

    def by_language(request: Request) -> Reply:
        body = request.head.headers.get(b"accept-language") or b""
        return Reply(fields={**FRESH, "Vary": "Accept-Language"}, body=body, gate=gate)

    world = World(by_language)
    clients = [
        asyncio.ensure_future(world.ask(fields={"Accept-Language": language})) for language in ("en", "de", "fr") * 10
    ]
    await world.until(lambda: world.asked == 1)
    gate.set()
    answers = await asyncio.gather(*clients)
    assert [answer.body for answer in answers] == [b"en", b"de", b"fr"] * 10
    assert world.asked == 3


async def test_requests_with_authorization_neither_share_nor_wait() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields={"Cache-Control": "max-age=60, public"}, gate=gate))
    clients = [asyncio.ensure_future(world.ask(fields={"Authorization": name})) for name in ("a", "b")]
    await world.until(lambda: world.asked == 2)
    gate.set()
    await asyncio.gather(*clients)


async def test_a_request_with_cookies_waits_but_gets_only_what_is_explicitly_fresh() -> None:
    gate = asyncio.Event()
    modified = {"Last-Modified": "Sun, 09 Sep 2001 00:00:00 GMT"}
    world = World(Reply(fields=modified, gate=gate))
    clients = [asyncio.ensure_future(world.ask(fields=fields)) for fields in ({}, {}, {"Cookie": "a=b"})]
    await world.until(lambda: world.asked == 1)
    gate.set()
    words = [answer.cache_status for answer in await asyncio.gather(*clients)]
    assert words[1:] == ["sidecar; fwd=uri-miss; collapsed", "sidecar; fwd=uri-miss"]


@pytest.mark.parametrize(
    "fields",
    [{"Range": "bytes=0-1"}, {"If-None-Match": '"x"'}, {"Cache-Control": "no-cache"}],
    ids=["range", "precondition", "directive"],
)
async def test_a_request_for_something_special_does_not_lead(fields: dict[str, str]) -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate))
    clients = crowd(world, 2, fields=fields)
    await world.until(lambda: world.asked == 2)
    gate.set()
    await asyncio.gather(*clients)


async def test_a_follower_with_a_range_gets_it_from_the_shared_answer() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate))
    leader = crowd(world, 1)
    follower = crowd(world, 1, fields={"Range": "bytes=0-1"})
    conditional = crowd(world, 1, fields={"If-None-Match": '"v1"'})
    await world.until(lambda: world.asked == 1)
    gate.set()
    await asyncio.gather(*leader)
    assert [(await task).status for task in (*follower, *conditional)] == [206, 304]


async def test_concurrent_revalidations_are_one() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH), Reply(304, FRESH, gate=gate))
    await world.ask()
    world.clock.now += 100
    clients = crowd(world, 20)
    await world.until(lambda: world.asked == 2)
    gate.set()
    answers = await asyncio.gather(*clients)
    assert {answer.status for answer in answers} == {200}
    assert world.asked == 2


async def test_collapsing_can_be_switched_off() -> None:
    gate = asyncio.Event()
    world = World(Reply(fields=FRESH, gate=gate), collapse=False)
    clients = crowd(world, 5)
    await world.until(lambda: world.asked == 5)
    gate.set()
    await asyncio.gather(*clients)


async def test_interim_heads_reach_the_client_that_started_it_only_while_it_is_there() -> None:
    gate = asyncio.Event()
    heard: list[int] = []
    world = World(Reply(fields=FRESH, gate=gate))
    request = world.request()
    request.on_interim = lambda head: heard.append(head.status)
    leader = asyncio.ensure_future(world.send(request))
    follower = crowd(world, 1)
    await world.until(lambda: world.asked == 1)
    tell = world.origin.requests[0].on_interim
    assert tell is not None
    tell(ResponseHead(103, Headers()))
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    tell(ResponseHead(103, Headers()))
    gate.set()
    await asyncio.gather(*follower)
    assert heard == [103]


async def test_at_shutdown_everybody_is_told() -> None:
    world = World(Reply(fields=FRESH, gate=asyncio.Event()))
    clients = crowd(world, 3)
    await world.until(lambda: world.asked == 1)
    world.tasks[0].cancel()
    results = await asyncio.gather(*clients, return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, ProxyError)] == ["draining"] * 3


async def test_a_defect_is_told_to_everybody_and_to_the_tasks_owner() -> None:
    def broken(request: Request) -> Reply:  # noqa: ARG001 - the port's
        raise ZeroDivisionError

    world = World(broken)
    results = await asyncio.gather(*crowd(world, 3), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, ProxyError)] == ["internal_error"] * 3
    with pytest.raises(ZeroDivisionError):
        await world.tasks[0]
