from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.config import Rewrite
from sidecar.core.routing import RouteTable
from sidecar.pipeline.gateway import FORGETFUL, Gateway
from tests.support.routes import route
from tests.support.stages import ScriptedHandler, request, response, sent_fields

if TYPE_CHECKING:
    from sidecar.core.config import RouteConfig
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Request, Response

CATALOG = route("catalog", prefix="/catalog/", rewrite=Rewrite(strip_prefix="/catalog"))
ORDERS = route("orders", prefix="/orders/")


class Door:
    """A gateway with a scripted stack per route, and what it refused."""

    def __init__(self, *routes: RouteConfig) -> None:
        self.refused: list[tuple[str, Request]] = []
        self.gateway = Gateway("edge", self._unrouted)
        self.stacks: dict[str, ScriptedHandler] = {}
        self.use(*routes)

    def use(self, *routes: RouteConfig) -> None:
        self.stacks = {one.name: ScriptedHandler(response()) for one in routes}
        self.gateway.use(RouteTable(routes), self.stacks)

    def refuse(self, asked: Request) -> Response:
        """The answer to a request that reaches no stack."""
        answer = self.gateway.answer_now(asked)
        assert answer is not None
        assert [one for stack in self.stacks.values() for one in stack.asked] == []
        return answer

    def _unrouted(self, error: ProxyError, asked: Request, answer: Response) -> None:
        assert answer.error is error
        self.refused.append((error.reason, asked))


def problem(answer: Response) -> dict[str, Any]:
    assert isinstance(answer.body, bytes)
    told = json.loads(answer.body)
    assert isinstance(told, dict)
    return told


async def test_a_request_goes_to_the_stack_of_its_route_and_carries_what_matched() -> None:
    door = Door(CATALOG, ORDERS)
    asked = request(b"/catalog/items")
    assert door.gateway.answer_now(asked) is None
    answer = await door.gateway.answer(asked)
    assert answer is door.stacks["catalog"].outcome
    assert (door.stacks["catalog"].asked, door.stacks["orders"].asked) == ([asked], [])
    assert (asked.route_name, asked.rewrite) == ("catalog", CATALOG.rewrite)
    assert door.refused == []


def test_what_a_stack_has_at_hand_is_the_answer() -> None:
    door = Door(CATALOG)
    door.stacks["catalog"].at_hand = at_hand = response()
    assert door.gateway.answer_now(request(b"/catalog/items")) is at_hand


def test_a_request_without_a_route_is_told_the_nearest() -> None:
    door = Door(CATALOG, ORDERS)
    asked = request(b"/catalgo/items?secret=1")
    answer = door.refuse(asked)
    told = problem(answer)
    assert (answer.head.status, told["reason"], told["route"]) == (404, "no_route", None)
    assert sent_fields(answer).get(b"content-type") == b"application/problem+json"
    assert told["detail"] == "no route matches /catalgo/items; nearest: catalog, orders"
    assert door.refused == [("no_route", asked)]
    assert asked.handler is None


def test_a_request_for_a_path_that_a_route_took_away_is_told_so() -> None:
    door = Door(route("reads", prefix="/v1/"))
    detail = problem(door.refuse(request(b"/catalog/1")))["detail"]
    assert detail == (
        "no route matches /catalog/1; upstream catalog has no /catalog/ of its own because route reads names it; "
        "nearest: reads"
    )


def test_the_path_is_quoted_within_reason() -> None:
    detail = problem(Door(CATALOG).refuse(request(b"/" + b"x" * 10_000 + b"\xff")))["detail"]
    assert len(detail) < 400


def test_without_any_route_it_says_so() -> None:
    assert problem(Door().refuse(request()))["detail"] == "no route matches, and none is configured"


@pytest.mark.parametrize(
    ("via", "loop"),
    [(b"1.1 edge", True), (b"1.0 fred, 1.1 EDGE (x)", True), (b"1.1 other", False)],
    ids=["here", "here, on the way", "elsewhere"],
)
def test_a_request_that_passed_here_before_goes_in_circles(via: bytes, *, loop: bool) -> None:
    door = Door(CATALOG)
    asked = request(b"/catalog/items", "GET", (b"Via", via))
    answer = door.gateway.answer_now(asked)
    if loop:
        assert answer is not None
        assert answer.head.status == 508
        assert sent_fields(answer).get(b"proxy-status") == b"edge; error=proxy_loop_detected"
        assert door.refused == [("loop_detected", asked)]
    else:
        assert answer is None
        assert asked.route_name == "catalog"


async def test_after_a_reload_new_requests_go_to_the_new_stacks_and_old_ones_end_where_they_began() -> None:
    door = Door(CATALOG)
    before, old = request(b"/catalog/items"), door.stacks["catalog"]
    door.gateway.answer_now(before)
    door.use(CATALOG, ORDERS)
    after = request(b"/orders/1")
    assert door.gateway.answer_now(after) is None
    assert await door.gateway.answer(before) is old.outcome
    assert await door.gateway.answer(after) is door.stacks["orders"].outcome
    door.use()
    assert problem(door.refuse(request(b"/orders/1")))["reason"] == "no_route"


def test_memory_that_had_no_answer_to_a_head_is_left_alone_for_a_moment() -> None:
    door = Door(CATALOG)
    head, stack = request(b"/catalog/items").head, door.stacks["catalog"]
    assert [door.gateway.recall(head, now, b"id", "") for now in (0.0, 0.01)] == [None, None]
    assert len(stack.recalled) == 1
    stack.remembers = stored = response()
    assert [door.gateway.recall(head, now, b"id", "") for now in (FORGETFUL, FORGETFUL + 0.01)] == [stored] * 2


@pytest.mark.parametrize(
    ("target", "field"), [(b"/nowhere", ()), (b"/catalog/items", ((b"Via", b"1.1 other"),))], ids=["no route", "via"]
)
def test_nobodys_memory_answers_what_depends_on_more_than_the_route(
    target: bytes, field: tuple[tuple[bytes, bytes], ...]
) -> None:
    door = Door(CATALOG)
    door.stacks["catalog"].remembers = response()
    assert door.gateway.recall(request(target, "GET", *field).head, 0.0, b"id", "") is None


def test_a_head_that_is_seen_again_after_a_reload_takes_the_new_route() -> None:
    door = Door(CATALOG)
    head = request(b"/catalog/items").head
    door.stacks["catalog"].remembers = before = response()
    assert door.gateway.recall(head, 0.0, b"id", "") is before
    door.use(CATALOG)
    door.stacks["catalog"].remembers = after = response()
    assert door.gateway.recall(head, 0.0, b"id", "") is after
