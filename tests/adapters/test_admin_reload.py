"""POST /v1/config/check and /v1/config/reload, over a process that only pretends."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.admin import Administered

if TYPE_CHECKING:
    from aiohttp.test_utils import TestClient
    from aiohttp.web import Application, Request
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[Request, Application]

CHECK, RELOAD = "/v1/config/check", "/v1/config/reload"
GOOD = """
upstreams:
  shop: {url: "http://shop.svc:8080"}
routes:
  - {name: catalog, match: {prefix: /catalog/}, upstream: shop}
  - {name: new, match: {prefix: /new/}, upstream: shop}
"""
BAD = """
upstreams:
  shop: {url: 17, timeuots: {}}
"""


@pytest.fixture
def process() -> Administered:
    return Administered()


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, process: Administered) -> Client:
    return await aiohttp_client(process.app())


async def post(client: Client, path: str, body: object = None) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("path", [CHECK, RELOAD])
async def test_tells_what_changes(client: Client, process: Administered, path: str) -> None:
    process.reloading.file = GOOD
    assert await post(client, path) == (
        200,
        {
            "changed": ["new", "orders"],
            "unchanged": ["catalog"],
            "needs_restart": [],
            "difference": ["route new: added", "route orders: removed"],
            "warnings": [],
        },
    )
    assert process.reloading.reloads == (path == RELOAD)


@pytest.mark.parametrize("path", [CHECK, RELOAD])
async def test_tells_every_error_and_its_place(client: Client, process: Administered, path: str) -> None:
    process.reloading.file = BAD
    status, problem = await post(client, path)
    assert status == 422
    assert (problem["type"], problem["reason"]) == ("urn:circuit-sidecar:problem:invalid_config", "invalid_config")
    assert problem["detail"] == "<config> has 2 errors; nothing was changed"
    assert [(error["line"], error["column"]) for error in problem["errors"]] == [(3, 15), (3, 19)]
    assert problem["errors"][1]["message"] == "unknown key 'timeuots' in upstream"
    assert "timeouts" in problem["errors"][1]["hint"]


async def test_checks_a_text_that_is_sent(client: Client, process: Administered) -> None:
    process.reloading.file = BAD
    status, answer = await post(client, CHECK, {"config": GOOD})
    assert (status, answer["changed"]) == (200, ["new", "orders"])


async def test_warnings_are_told_too(client: Client) -> None:
    text = GOOD + 'proxy: {access_log: false}\nadmin: {listen: "0.0.0.0:4101"}\n'
    status, answer = await post(client, CHECK, {"config": text})
    assert status == 200
    assert answer["needs_restart"] == ["proxy.access_log"]
    assert [warning["line"] for warning in answer["warnings"]] == [8]


async def test_a_text_may_be_larger_than_other_bodies(client: Client) -> None:
    body = io.BytesIO(json.dumps({"config": GOOD + "# a comment\n" * 100_000}).encode())
    async with client.post(CHECK, data=body, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 200


BODIES = {
    "no text": {"config": 17},
    "null": {"config": None},
    "unknown key": {"config": GOOD, "file": "x"},
    "missing": {},
    "list": [GOOD],
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_says_something_else_is_refused(client: Client, body: object) -> None:
    status, problem = await post(client, CHECK, body)
    assert (status, problem["reason"]) == (422, "bad_values")
    assert all(error["pointer"].startswith("#") for error in problem["errors"])


@pytest.mark.parametrize("path", [CHECK, RELOAD])
async def test_looking_is_not_a_call(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", [CHECK, RELOAD])
async def test_a_form_which_any_page_can_send_is_refused(client: Client, process: Administered, path: str) -> None:
    async with client.post(path, data=json.dumps({"config": GOOD})) as response:
        assert response.status == 415
    assert process.reloading.reloads == 0
