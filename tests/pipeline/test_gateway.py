from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config import Rewrite
from sidecar.core.routing import RouteTable
from sidecar.pipeline.gateway import Gateway
from sidecar.pipeline.source import Source
from tests.support.routes import route
from tests.support.stages import ScriptedHandler, request, response, sent_fields

if TYPE_CHECKING:
    from sidecar.core.config import RouteConfig
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Request, Response

CATALOG = route("catalog", prefix="/catalog/", rewrite=Rewrite(strip_prefix="/catalog"))
ORDERS = route("orders", prefix="/orders/")


class Door:
    """A gateway with a scripted stack per route, and what it refused."""

    def __init__(self, *routes: RouteConfig) -> None:
        self.refused: list[tuple[str, Request]] = []
        self.answered: list[tuple[int, Request]] = []
        self.gateway = Gateway("edge", self._unrouted, self._answered_here)
        self.stacks: dict[str, ScriptedHandler] = {}
        self.use(*routes)

    def use(self, *routes: RouteConfig) -> None:
        self.stacks = {one.name: ScriptedHandler(response()) for one in routes}
        self.gateway.use(RouteTable(routes), self.stacks)

    async def refuse(self, asked: Request) -> Response:
        """The answer to a request that reaches no stack."""
        answer = await self.gateway.handle(asked)
        assert [one for stack in self.stacks.values() for one in stack.asked] == []
        return answer

    def _unrouted(self, error: ProxyError, asked: Request, answer: Response) -> None:
        assert answer.error is error
        self.refused.append((error.reason, asked))

    def _answered_here(self, asked: Request, answer: Response) -> None:
        self.answered.append((answer.head.status, asked))


def problem(answer: Response) -> dict[str, Any]:
    assert isinstance(answer.body, bytes)
    told = json.loads(answer.body)
    assert isinstance(told, dict)
    return told


async def test_a_request_goes_to_the_stack_of_its_route_and_carries_what_matched() -> None:
    door = Door(CATALOG, ORDERS)
    asked = request(b"/catalog/items")
    answer = await door.gateway.handle(asked)
    assert answer is door.stacks["catalog"].outcome
    assert (door.stacks["catalog"].asked, door.stacks["orders"].asked) == ([asked], [])
    assert (asked.route_name, asked.rewrite) == ("catalog", CATALOG.rewrite)
    assert door.refused == []


async def test_a_request_without_a_route_is_told_the_nearest() -> None:
    door = Door(CATALOG, ORDERS)
    asked = request(b"/catalgo/items?secret=1")
    answer = await door.refuse(asked)
    told = problem(answer)
    assert (answer.head.status, told["reason"], told["route"]) == (404, "no_route", None)
    assert sent_fields(answer).get(b"content-type") == b"application/problem+json"
    assert told["detail"] == "no route matches /catalgo/items; nearest: catalog, orders"
    assert door.refused == [("no_route", asked)]


async def test_a_request_for_a_path_that_a_route_took_away_is_told_so() -> None:
    door = Door(route("reads", prefix="/v1/"))
    detail = problem(await door.refuse(request(b"/catalog/1")))["detail"]
    assert detail == (
        "no route matches /catalog/1; upstream catalog has no /catalog/ of its own because route reads names it; "
        "nearest: reads"
    )


async def test_the_path_is_quoted_within_reason() -> None:
    detail = problem(await Door(CATALOG).refuse(request(b"/" + b"x" * 10_000 + b"\xff")))["detail"]
    assert len(detail) < 400


async def test_without_any_route_it_says_so() -> None:
    assert problem(await Door().refuse(request()))["detail"] == "no route matches, and none is configured"


@pytest.mark.parametrize(
    ("via", "loop"),
    [(b"1.1 edge", True), (b"1.0 fred, 1.1 EDGE (x)", True), (b"1.1 other", False)],
    ids=["here", "here, on the way", "elsewhere"],
)
async def test_a_request_that_passed_here_before_goes_in_circles(via: bytes, *, loop: bool) -> None:
    door = Door(CATALOG)
    asked = request(b"/catalog/items", "GET", (b"Via", via))
    answer = await door.gateway.handle(asked)
    if loop:
        assert answer.head.status == 508
        assert sent_fields(answer).get(b"proxy-status") == b"edge; error=proxy_loop_detected"
        assert door.refused == [("loop_detected", asked)]
    else:
        assert answer is door.stacks["catalog"].outcome
        assert asked.route_name == "catalog"


async def test_after_a_reload_new_requests_go_to_the_new_stacks_and_old_ones_end_where_they_began() -> None:
    door = Door(CATALOG)
    old = door.stacks["catalog"]
    before = door.gateway.handle(request(b"/catalog/items"))
    door.use(CATALOG, ORDERS)
    assert await before is old.outcome
    assert await door.gateway.handle(request(b"/catalog/items")) is door.stacks["catalog"].outcome
    assert await door.gateway.handle(request(b"/orders/1")) is door.stacks["orders"].outcome
    door.use()
    assert problem(await door.refuse(request(b"/orders/1")))["reason"] == "no_route"


NO_FURTHER = (b"Max-Forwards", b"0")


@pytest.mark.parametrize(
    ("target", "route_name", "allow"),
    [
        (b"/catalog/items", "catalog", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"),
        (b"/reads/1", "options", b"GET, OPTIONS"),
        (b"*", None, b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"),
    ],
    ids=["any method", "some methods", "all of it"],
)
async def test_options_that_may_go_no_further_are_answered_here(
    target: bytes, route_name: str | None, allow: bytes
) -> None:
    reads = route("reads", prefix="/reads/", methods=frozenset({"GET"}))
    options = route("options", prefix="/reads/", methods=frozenset({"OPTIONS"}))
    purges = route("purges", prefix="/purges/", methods=frozenset({"PURGE"}))
    door = Door(CATALOG, reads, options, purges)
    asked = request(target, "OPTIONS", NO_FURTHER)
    answer = await door.refuse(asked)
    assert (answer.head.status, answer.body, answer.source) == (200, b"", Source.SIDECAR)
    assert sent_fields(answer).index == {b"allow": allow, b"content-length": b"0", b"x-request-id": asked.request_id}
    assert (door.answered, door.refused, asked.route_name) == ([(200, asked)], [], route_name)


@pytest.mark.parametrize(
    ("method", "target", "fields", "reason"),
    [
        ("OPTIONS", b"/catalog/items", ((b"Max-Forwards", b"1"),), None),
        ("OPTIONS", b"/catalog/items", ((b"Max-Forwards", b"zero"),), None),
        ("GET", b"/catalog/items", (NO_FURTHER,), None),
        ("OPTIONS", b"/nowhere", (NO_FURTHER,), "no_route"),
        ("OPTIONS", b"*", (), "no_route"),
        ("OPTIONS", b"/catalog/items", (NO_FURTHER, (b"Via", b"1.1 edge")), "loop_detected"),
    ],
)
async def test_other_requests_are_not(
    method: str, target: bytes, fields: tuple[tuple[bytes, bytes], ...], reason: str | None
) -> None:
    door = Door(CATALOG)
    asked = request(target, method, *fields)
    await door.gateway.handle(asked)
    assert (door.answered, [why for why, _ in door.refused]) == ([], [] if reason is None else [reason])
    assert [one for stack in door.stacks.values() for one in stack.asked] == ([asked] if reason is None else [])
