import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.admin.effective import plain
from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import CacheMode, CacheSettings, Match
from sidecar.core.report import REDACTED
from sidecar.pipeline.ports import RouteEntries
from sidecar.pipeline.store_decisions import STORED
from tests.support.admin import NOON, Administered

if TYPE_CHECKING:
    from aiohttp.test_utils import TestClient
    from aiohttp.web import Application, Request
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[Request, Application]

OVERRIDE = "/v1/circuits/catalog/override"


@pytest.fixture
def process() -> Administered:
    return Administered()


@pytest.fixture
async def client(aiohttp_client: "AiohttpClient", process: Administered) -> "Client":
    return await aiohttp_client(process.app())


async def get(client: "Client", path: str) -> Any:
    async with client.get(path) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == ("no-cache" if "ETag" in response.headers else "no-store")
        return await response.json()


async def call(client: "Client", method: str, path: str, body: object = None, status: int = 200) -> Any:
    async with client.request(method, path, json=body) as response:
        content = await response.json(content_type=None)
        assert response.status == status, content
        if status >= 400:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert content["status"] == status
        return content


# Looking


async def test_a_closed_circuit_is_shown(client: "Client") -> None:
    shown = await get(client, "/v1/circuits/catalog")
    assert (shown["name"], shown["route"], shown["upstream"]) == ("catalog", "catalog", "shop")
    assert (shown["state"], shown["effective_state"], shown["override"], shown["trip"]) == (
        "closed",
        "closed",
        None,
        None,
    )
    assert (shown["next_probe_at"], shown["retry_after"]) == (None, None)
    assert shown["since"] == "2025-11-24T16:00:00.000Z"
    assert shown["config_ref"] == "sidecar.yaml:7"


async def test_an_open_circuit_tells_why_and_until_when(client: "Client", process: Administered) -> None:
    process.fail("catalog")
    shown = await get(client, "/v1/circuits/catalog")
    assert (shown["state"], shown["effective_state"]) == ("open", "open")
    assert shown["next_probe_at"] == "2025-11-24T16:00:15.000Z"
    assert shown["retry_after"] == pytest.approx(15)
    assert shown["trip"]["cause"] == "failure_threshold"
    assert [sample["request_id"] for sample in shown["trip"]["samples"]] == [f"id-{number}" for number in range(5)]
    assert shown["trip"]["samples"][0] == {
        "at": "2025-11-24T16:00:00.000Z",
        "request_id": "id-0",
        "method": "GET",
        "path": "/items",
        "status": 503,
        "error": None,
        "duration_ms": 25.0,
    }


async def test_every_circuit_is_listed(client: "Client", process: Administered) -> None:
    process.fail("orders")
    listed = await get(client, "/v1/circuits")
    assert [(it["name"], it["state"]) for it in listed["circuits"]] == [("catalog", "closed"), ("orders", "open")]


async def test_looking_changes_no_circuit(client: "Client", process: Administered) -> None:
    process.fail("catalog")
    process.now += 3600.0
    await get(client, "/v1/circuits/catalog")
    await get(client, "/v1/circuits")
    assert process.circuits["catalog"].snapshot(process.now).state is State.OPEN
    assert isinstance(process.circuits["catalog"].ask(process.now, safe=True), Permit)


async def test_a_reload_changes_what_is_shown(client: "Client", process: Administered) -> None:
    del process.circuits["orders"]
    assert [it["name"] for it in (await get(client, "/v1/circuits"))["circuits"]] == ["catalog"]


# Overrides


async def test_forcing_open_holds_before_the_answer_is_sent(client: "Client", process: Administered) -> None:
    shown = await call(
        client, "PUT", OVERRIDE, {"mode": "forced_open", "reason": "deploy", "actor": "alice", "ttl": "15m"}
    )
    assert not process.admits("catalog")
    assert (shown["state"], shown["effective_state"]) == ("closed", "forced_open")
    assert shown["override"] == {
        "mode": "forced_open",
        "reason": "deploy",
        "actor": "alice",
        "set_at": "2025-11-24T16:00:00.000Z",
        "expires_at": "2025-11-24T16:15:00.000Z",
        "scope": "pod",
    }


async def test_forcing_closed_admits_through_an_open_circuit(client: "Client", process: Administered) -> None:
    process.fail("catalog")
    shown = await call(client, "PUT", OVERRIDE, {"mode": "forced_closed"})
    assert process.admits("catalog")
    assert (shown["state"], shown["effective_state"]) == ("open", "forced_closed")


async def test_releasing_an_override_returns_to_the_truth(client: "Client", process: Administered) -> None:
    process.fail("catalog")
    await call(client, "PUT", OVERRIDE, {"mode": "forced_closed"})
    for _ in range(2):  # idempotent
        shown = await call(client, "DELETE", OVERRIDE)
        assert (shown["effective_state"], shown["override"]) == ("open", None)
    assert not process.admits("catalog")


async def test_setting_the_same_override_twice_is_setting_it_once(client: "Client") -> None:
    once = await call(client, "PUT", OVERRIDE, {"mode": "forced_open"})
    assert await call(client, "PUT", OVERRIDE, {"mode": "forced_open"}) == once


@pytest.mark.parametrize(
    ("ttl", "expires_at"),
    [
        ({}, "2025-11-24T17:00:00.000Z"),
        ({"ttl": "90s"}, "2025-11-24T16:01:30.000Z"),
        ({"ttl": "1h30m"}, "2025-11-24T17:30:00.000Z"),
        ({"ttl": "never"}, None),
    ],
    ids=["an hour unless said", "seconds", "mixed", "never when said"],
)
async def test_an_override_ends_by_itself(client: "Client", ttl: dict[str, str], expires_at: str | None) -> None:
    shown = await call(client, "PUT", OVERRIDE, {"mode": "forced_open", **ttl})
    assert shown["override"]["expires_at"] == expires_at


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({}, "#/mode", "forced_open"),
        ({"mode": "forced-open"}, "#/mode", "did you mean 'forced_open'?"),
        ({"mode": 1}, "#/mode", "wanted is one of"),
        ({"mode": None}, "#/mode", "wanted is one of"),
        ({"mode": "observe", "ttl": 900}, "#/ttl", "never"),
        ({"mode": "observe", "ttl": None}, "#/ttl", "never"),
        ({"mode": "observe", "ttl": "900"}, "#/ttl", "900s"),
        ({"mode": "observe", "ttl": "soon"}, "#/ttl", "not a duration"),
        ({"mode": "observe", "ttl": "-5m"}, "#/ttl", "not a duration"),
        ({"mode": "observe", "ttl": "0s"}, "#/ttl", "more than 0"),
        ({"mode": "observe", "ttl": "999999d"}, "#/ttl", "at most"),
        ({"mode": "observe", "ttl": ""}, "#/ttl", "not a duration"),
        ({"mode": "observe", "reason": 5}, "#/reason", "text"),
        ({"mode": "observe", "actor": ["a"]}, "#/actor", "text"),
        ({"mode": "observe", "reason": "x" * 501}, "#/reason", "longer than"),
        ({"mode": "observe", "reason": "\ud800"}, "#/reason", "surrogate"),
        ({"mode": "observe", "scope": "all"}, "#/scope", "wanted is one of fleet, pod"),
        ({"mode": "observe", "scope": None}, "#/scope", "wanted is one of fleet, pod"),
        ({"mode": "observe", "tll": "5m"}, "#/tll", "did you mean 'ttl'?"),
        ({"mode": "observe", "a/b~c d": 1}, "#/a~1b~0c%20d", "unknown key"),
    ],
)
async def test_a_wrong_value_is_pointed_at(
    client: "Client", process: Administered, body: dict[str, object], pointer: str, said: str
) -> None:
    problem = await call(client, "PUT", OVERRIDE, body, status=422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert said in problem["errors"][0]["detail"]
    assert process.circuits["catalog"].snapshot(process.now).override is None


@pytest.mark.parametrize("scope", ["fleet", "pod"])
async def test_one_that_is_alone_is_its_own_fleet(client: "Client", scope: str) -> None:
    shown = await call(client, "PUT", OVERRIDE, {"mode": "observe", "scope": scope})
    assert (shown["override"]["mode"], shown["override"]["scope"]) == ("observe", "pod")
    assert (await call(client, "DELETE", f"{OVERRIDE}?scope={scope}"))["override"] is None
    problem = await call(client, "DELETE", f"{OVERRIDE}?scope=all", status=422)
    assert [error["pointer"] for error in problem["errors"]] == ["?scope"]


async def test_every_wrong_value_is_told_at_once(client: "Client") -> None:
    problem = await call(client, "PUT", OVERRIDE, {"mode": "open", "ttl": 5, "why": ""}, status=422)
    assert {error["pointer"] for error in problem["errors"]} == {"#/mode", "#/ttl", "#/why"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"forced_open"',
        '{"mode": "forced_open", "mode": "forced_closed"}',
        '{"mode": NaN}',
        "\xff",
        "[" * 30_000,
    ],
    ids=["empty", "cut", "array", "null", "string", "repeated key", "NaN", "no UTF-8", "deep"],
)
async def test_a_body_that_is_no_json_object_is_refused(client: "Client", process: Administered, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    async with client.put(OVERRIDE, data=text.encode("latin-1"), headers=headers) as response:
        assert response.status == 422
        assert (await response.json())["errors"][0]["pointer"] == "#"
    assert process.admits("catalog")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", OVERRIDE), ("DELETE", OVERRIDE), ("POST", "/v1/circuits/catalog/reset"), ("DELETE", "/v1/cache?tag=a")],
)
async def test_a_body_that_is_not_declared_json_is_refused(
    client: "Client", process: Administered, method: str, path: str, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    async with client.request(method, path, data=b'{"mode": "forced_open"}', headers=headers) as response:
        assert response.status == 415
    assert process.admits("catalog")
    assert process.store.purges == []


async def test_a_body_beyond_its_limit_is_refused(client: "Client") -> None:
    problem = await call(client, "PUT", OVERRIDE, {"mode": "forced_open", "reason": "x" * 70_000}, status=413)
    assert problem["reason"] == "content_too_large"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (None, "reset by unknown"),
        ({}, "reset by unknown"),
        ({"actor": "alice"}, "reset by alice"),
        ({"reason": "fixed"}, "reset by unknown: fixed"),
        ({"actor": "alice", "reason": "fixed"}, "reset by alice: fixed"),
    ],
    ids=str,
)
async def test_resetting_closes_a_circuit_with_an_empty_window(
    client: "Client", process: Administered, body: dict[str, str] | None, told: str
) -> None:
    process.fail("catalog")
    shown = await call(client, "POST", "/v1/circuits/catalog/reset", body)
    assert (shown["state"], shown["window"]["requests"]) == ("closed", 0)
    assert process.admits("catalog")
    assert process.events.after(0)[-1].message.endswith(told)


@pytest.mark.parametrize(
    "body", [{"reason": 5}, {"reason": "x" * 501}, {"why": "fixed"}], ids=["number", "long", "key"]
)
async def test_a_reset_with_a_wrong_reason_changes_nothing(
    client: "Client", process: Administered, body: dict[str, Any]
) -> None:
    process.fail("catalog")
    problem = await call(client, "POST", "/v1/circuits/catalog/reset", body, status=422)
    assert problem["errors"][0]["pointer"] == f"#/{next(iter(body))}"
    assert not process.admits("catalog")


# What is not there


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/circuits/catalogue", None),
        ("PUT", "/v1/circuits/catalogue/override", {"mode": "forced_open"}),
        ("DELETE", "/v1/circuits/catalogue/override", None),
        ("POST", "/v1/circuits/catalogue/reset", None),
    ],
)
async def test_an_unknown_circuit_is_never_made_up(
    client: "Client", process: Administered, method: str, path: str, body: object
) -> None:
    problem = await call(client, method, path, body, status=404)
    assert "did you mean 'catalog'?" in problem["detail"]
    assert set(process.circuits) == {"catalog", "orders"}
    assert process.events.after(0) == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", OVERRIDE, {"PUT", "DELETE"}),
        ("HEAD", OVERRIDE, {"PUT", "DELETE"}),
        ("POST", OVERRIDE, {"PUT", "DELETE"}),
        ("GET", "/v1/circuits/catalog/reset", {"POST"}),
        ("DELETE", "/v1/circuits", {"GET", "HEAD"}),
        ("PUT", "/v1/circuits/catalog", {"GET", "HEAD"}),
        ("POST", "/v1/cache", {"GET", "HEAD", "DELETE"}),
        ("OPTIONS", "/v1/circuits", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_no_call_is_told_which_are(
    client: "Client", process: Administered, method: str, path: str, allow: set[str]
) -> None:
    async with client.request(method, path) as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == allow
    assert process.admits("catalog")


@pytest.mark.parametrize("path", ["/v2", "/v2/circuits", "/v1/circuits/", "/v1/circuits/catalog/", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_call_is_told_which_calls_there_are(client: "Client", method: str, path: str) -> None:
    told = await call(client, method, path, status=404)
    assert "GET /" in told["detail"]
    assert told["calls"] == (await get(client, "/"))["calls"]


@pytest.mark.parametrize(
    "path", ["/", "/v1/circuits", "/v1/circuits/catalog", "/v1/events", "/v1/events/stream", "/v1/cache"]
)
async def test_head_is_answered_without_a_body(client: "Client", path: str) -> None:
    async with client.head(path) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_defect_is_a_problem_and_goes_to_the_log(
    aiohttp_client: "AiohttpClient", process: Administered, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("broken")

    client = await aiohttp_client(process.app(info=broken))
    assert (await call(client, "GET", "/v1/info", status=500))["reason"] == "internal_error"
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("sidecar.admin", "an admin call failed")
    ]


# The rest of what can be asked


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
async def test_the_index_lists_the_calls(client: "Client", path: str) -> None:
    calls = {(it["method"], it["path"]) for it in (await get(client, path))["calls"]}
    assert {("GET", "/v1/circuits"), ("PUT", "/v1/circuits/{name}/override"), ("DELETE", "/v1/cache")} <= calls


async def test_the_process_tells_about_itself(client: "Client") -> None:
    assert await get(client, "/v1/info") == {"version": "1.2.3", "uptime_seconds": 1000.0}


async def test_routes_are_shown_with_their_settings_in_force(client: "Client") -> None:
    catalog, _ = (await get(client, "/v1/routes"))["routes"]
    assert (catalog["name"], catalog["upstream"], catalog["match"]["prefix"]) == ("catalog", "shop", "/catalog/")
    assert catalog["breaker"]["failure_rate"] == 0.5
    assert catalog["breaker"]["failures"] == [500, 502, 503, 504]
    assert catalog["breaker"]["window"] == {"seconds": 30.0}
    assert catalog["cache"]["mode"] == "standard"


async def test_upstreams_and_the_whole_configuration_are_shown(client: "Client") -> None:
    (shop,) = (await get(client, "/v1/upstreams"))["upstreams"]
    assert (shop["name"], shop["endpoints"]) == ("shop", ["http://shop.svc:8080"])
    config = await get(client, "/v1/config")
    assert shop.pop("bulkheads") == []
    assert config["upstreams"] == [shop]
    assert [route["name"] for route in config["routes"]] == ["catalog", "orders"]
    assert config["proxy"]["listen"] == ["127.0.0.1:4100"]
    assert config["cache"]["max_size"] == 64 * 1024 * 1024


def test_a_pattern_is_shown_as_it_was_written() -> None:
    assert plain(re.compile(rb"/v[0-9]+/\xe9")) == "/v[0-9]+/\\xe9"


def test_header_values_that_are_likely_secrets_are_left_out() -> None:
    headers = (
        ("x-api-key", "k"),
        ("authorization", "Bearer t"),
        ("cookie", "a=b"),
        ("x-team", "blue"),
        ("x-token", None),
    )
    assert plain(Match(prefix="/", headers=headers)) == {
        "prefix": "/",
        "path": None,
        "regex": None,
        "methods": None,
        "host": None,
        "headers": {
            "x-api-key": REDACTED,
            "authorization": REDACTED,
            "cookie": REDACTED,
            "x-team": "blue",
            "x-token": None,
        },
    }


async def test_explaining_which_route_a_request_takes(client: "Client") -> None:
    told = await get(client, "/v1/explain?url=/catalog/items%3Fq=1")
    assert (told["method"], told["target"]) == ("GET", "/catalog/items?q=1")
    assert (told["route"], told["upstream"]) == ("catalog", "shop")
    assert told["sends"] == "GET http://shop.svc:8080/catalog/items?q=1"
    assert {"name": "breaker.minimum_requests", "value": "20", "config_ref": None} in [
        {**setting, "value": str(setting["value"])} for setting in told["settings"]
    ]
    (other,) = [each for each in told["candidates"] if each["route"] == "orders"]
    assert other["failed"]


async def test_explaining_that_no_route_matches(client: "Client") -> None:
    told = await get(client, "/v1/explain?method=PUT&url=/catalogue/1")
    assert (told["method"], told["route"], told["settings"]) == ("PUT", None, None)
    assert told["nearest"][0] == "catalog"


async def test_explaining_what_the_sidecar_answers_itself(client: "Client") -> None:
    told = await get(client, "/v1/explain?method=TRACE&url=/catalog/1")
    assert (told["sends"], told["answered_here"]) == (None, "501: the request method is not done here")
    told = await get(client, "/v1/explain?method=LIST&url=/catalog/1")
    assert (told["sends"], told["answered_here"]) == ("LIST http://shop.svc:8080/catalog/1", None)


async def test_explaining_regards_header_fields(client: "Client", process: Administered) -> None:
    beta = replace(process.config.routes[0], name="beta", match=Match(prefix="/", headers=(("x-beta", "1"),)))
    process.config = replace(process.config, routes=(beta,))
    assert (await get(client, "/v1/explain?url=/a&header=X-Beta:%201"))["route"] == "beta"
    assert (await get(client, "/v1/explain?url=/a&header=X-Beta:%202"))["route"] is None


async def test_explaining_says_why_an_answer_was_stored_or_not(client: "Client", process: Administered) -> None:
    key = "catalog http://shop.svc:8080/catalog/1"
    unknown = {"key": key, "bypass": None, "last": None}
    assert (await get(client, "/v1/explain?url=/catalog/1"))["cache"] == unknown
    process.store.stats.decisions.note(key.encode(), "catalog", 200, "private", NOON)
    assert (await get(client, "/v1/explain?url=/catalog/1"))["cache"]["last"] == {
        "key": key,
        "status": 200,
        "stored": False,
        "why": "private",
        "at": "2025-11-24T16:00:00.000Z",
    }


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("method=POST", "method"),
        ("header=X-Forwarded-Host:a", "unkeyed field"),
        ("header=Cache-Control:no-store", "no-store asked for"),
    ],
)
async def test_explaining_says_what_keeps_a_request_from_the_store(client: "Client", query: str, why: str) -> None:
    assert (await get(client, f"/v1/explain?url=/catalog/1&{query}"))["cache"]["bypass"] == why


async def test_explaining_regards_whether_clients_may_direct_the_cache(client: "Client", process: Administered) -> None:
    deaf = replace(process.config.routes[0], cache=CacheSettings(honor_request_directives=False))
    process.config = replace(process.config, routes=(deaf,))
    told = await get(client, "/v1/explain?url=/catalog/1&header=Cache-Control:no-store")
    assert told["cache"]["bypass"] is None


@pytest.mark.parametrize("url", ["/catalog/1", "/nowhere"])
async def test_without_a_cache_there_is_nothing_to_explain(client: "Client", process: Administered, url: str) -> None:
    off = replace(process.config.routes[0], cache=CacheSettings(mode=CacheMode.OFF))
    process.config = replace(process.config, routes=(off,))
    assert (await get(client, f"/v1/explain?url={url}"))["cache"] is None


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("", "?url"),
        ("?url=", "?url"),
        ("?url=ftp://a/", "?url"),
        ("?url=/a%23b%20", "?url"),
        ("?url=/&header=x", "?header"),
        ("?url=/&method=G%20T", "?method"),
        ("?url=/&method=", "?method"),
        ("?url=/&url=/b", "?url"),
        ("?url=/&method=GET&method=PUT", "?method"),
    ],
)
async def test_what_cannot_be_explained_is_pointed_at(client: "Client", query: str, pointer: str) -> None:
    problem = await call(client, "GET", f"/v1/explain{query}", status=422)
    assert problem["errors"][0]["pointer"] == pointer


CALLS = [
    ("GET", "/"),
    ("GET", "/v1"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/circuits"),
    ("HEAD", "/v1/circuits"),
    ("GET", "/v1/circuits/catalog"),
    ("PUT", OVERRIDE),
    ("DELETE", OVERRIDE),
    ("POST", "/v1/circuits/catalog/reset"),
    ("GET", "/v1/faults"),
    ("PUT", "/v1/faults/catalog"),
    ("DELETE", "/v1/faults/catalog"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/stream"),
    ("GET", "/v1/traffic"),
    ("GET", "/v1/traffic/stream"),
    ("GET", "/v1/routes"),
    ("GET", "/v1/upstreams"),
    ("GET", "/v1/config"),
    ("POST", "/v1/config/check"),
    ("POST", "/v1/config/reload"),
    ("GET", "/v1/info"),
    ("GET", "/v1/explain"),
    ("GET", "/v1/cache"),
    ("GET", "/v1/cache/entries"),
    ("DELETE", "/v1/cache"),
]


async def test_every_call_is_in_the_table_of_calls(client: "Client") -> None:
    listed = {
        (it["method"], it["path"].format(name="catalog", route="catalog")) for it in (await get(client, "/"))["calls"]
    }
    assert listed <= set(CALLS)


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("query", ["bogus=1", "bogus", "Limit=1", "url=/&method=GET&bogus=1"])
async def test_an_unknown_query_parameter_is_named(
    client: "Client", process: Administered, method: str, path: str, query: str
) -> None:
    async with client.request(method, f"{path}?{query}") as response:
        assert response.status == 422
        problem = await response.json(content_type=None) if method != "HEAD" else None
    if problem is not None:
        assert {"?bogus", "?Limit"} & {it["pointer"] for it in problem["errors"]}
        assert problem["reason"] == "bad_values"
    assert (process.store.purges, process.reloading.reloads) == ([], 0)


async def test_an_unknown_query_parameter_comes_with_the_known_ones(client: "Client") -> None:
    detail = (await call(client, "GET", "/v1/events?limits=3", status=422))["detail"]
    assert detail == "?limits: unknown; did you mean 'limit'?"
    detail = (await call(client, "GET", "/v1/info?x=3", status=422))["detail"]
    assert detail == "?x: unknown; this call takes no parameters"


# The cache


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "?limit"),
        ("limit=1001", "?limit"),
        ("cursor=x", "?cursor"),
        ("prefix=", "?prefix"),
        ("route=", "?route"),
        ("prefix=/a%23b", "?prefix"),
        ("prefix=/a&prefix=/b", "?prefix"),
    ],
)
async def test_a_list_of_the_cache_that_cannot_be_is_an_error(client: "Client", query: str, pointer: str) -> None:
    problem = await call(client, "GET", f"/v1/cache/entries?{query}", status=422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_list_of_the_cache_of_a_route_that_there_is_not_is_no_empty_list(client: "Client") -> None:
    assert (
        "did you mean 'catalog'?"
        in (await call(client, "GET", "/v1/cache/entries?route=catalogue", status=404))["detail"]
    )


async def test_the_cache_is_shown_whole_and_by_route(client: "Client", process: Administered) -> None:
    process.store.stats.entries, process.store.stats.bytes = 2, 300
    process.store.stats.evictions["size"] = 4
    process.store.held = [RouteEntries("catalog", 2, 300, 940.0, 200)]
    process.route_stats[1].cache_results["miss"] = 9
    process.store.stats.decisions.note(b"a", "orders", 200, "no-store", NOON)
    process.store.stats.decisions.note(b"b", "orders", 200, STORED, NOON + 1)
    assert await get(client, "/v1/cache") == {
        "entries": 2,
        "bytes": 300,
        "max_size": 64 * 1024 * 1024,
        "evictions": {"size": 4},
        "routes": [
            {
                "route": "catalog",
                "entries": 2,
                "bytes": 300,
                "oldest": "2025-11-24T15:59:00.000Z",
                "largest": 200,
                "results": {},
                "answers": {},
                "last": None,
            },
            {
                "route": "orders",
                "entries": 0,
                "bytes": 0,
                "oldest": None,
                "largest": 0,
                "results": {"miss": 9},
                "answers": {"no-store": 1, "stored": 1},
                "last": {"key": "b", "status": 200, "stored": True, "why": "stored", "at": "2025-11-24T16:00:01.000Z"},
            },
        ],
    }


@pytest.mark.parametrize(
    ("query", "selectors"),
    [
        ("route=catalog", {"route": "catalog"}),
        ("url=http://shop.svc:8080/a%3Fb=1%2520c", {"url": b"http://shop.svc:8080/a?b=1%20c"}),
        ("prefix=http://shop.svc:8080/a/", {"prefix": b"http://shop.svc:8080/a/"}),
        ("tag=sku-%C3%A9", {"tag": "sku-é".encode()}),
        ("route=orders&tag=a", {"route": "orders", "tag": b"a"}),
    ],
)
async def test_purging_forgets_what_is_selected(
    client: "Client", process: Administered, query: str, selectors: dict[str, str | bytes]
) -> None:
    told = await call(client, "DELETE", f"/v1/cache?{query}")
    assert (told["purged"], told["urls"]) == (3, ["http://shop.svc:8080/a"])
    assert process.store.purges == [selectors]
    (event,) = process.events.after(0)
    assert (event.kind, event.details["purged"]) == ("purge", 3)


@pytest.mark.parametrize(
    ("query", "meant", "rules"),
    [
        ("tag=a", None, [{"tag": b"a"}]),
        (
            "url=/catalog/1",
            {"url": [{"whose": "client", "url": "http://shop.svc:8080/catalog/1", "route": "catalog"}]},
            [{"url": b"http://shop.svc:8080/catalog/1", "route": "catalog"}],
        ),
        (
            "url=http://shop.svc:8080/1",
            {"url": [{"whose": "upstream", "url": "http://shop.svc:8080/1", "route": None}]},
            [{"url": b"http://shop.svc:8080/1"}],
        ),
        ("url=/nowhere", {"url": []}, []),
        (
            "url=/catalog/1&route=orders",
            {"url": [{"whose": "client", "url": "http://shop.svc:8080/catalog/1", "route": "catalog"}]},
            [],
        ),
        (
            "prefix=/catalog/a&tag=t",
            {"prefix": [{"whose": "client", "url": "http://shop.svc:8080/catalog/a", "route": "catalog"}]},
            [{"prefix": b"http://shop.svc:8080/catalog/a", "route": "catalog", "tag": b"t"}],
        ),
    ],
)
async def test_a_purge_says_whose_url_was_meant(
    client: "Client",
    process: Administered,
    query: str,
    meant: dict[str, Any] | None,
    rules: list[dict[str, str | bytes]],
) -> None:
    told = await call(client, "DELETE", f"/v1/cache?{query}")
    assert (told.get("meant"), told["purged"]) == (meant, 3 * len(rules))
    assert process.store.purges == rules


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("?", 422),
        ("?tag=", 422),
        ("?tag=a&tag=b", 422),
        ("?tags=a", 422),
        ("?route=catalog&x=1", 422),
        ("?url=catalog", 422),
        ("?url=http://shop.svc:8080/a%23b", 422),
        ("?route=catalogs", 404),
    ],
)
async def test_a_purge_that_selects_nothing_or_nonsense_is_refused(
    client: "Client", process: Administered, query: str, status: int
) -> None:
    await call(client, "DELETE", f"/v1/cache{query}", status=status)
    assert process.store.purges == []


async def test_thousands_of_circuits_are_listed_whole(client: "Client", process: Administered) -> None:
    circuit = process.circuits["catalog"]
    process.circuits = {f"route-{number}": circuit for number in range(2000)}
    async with client.get("/v1/circuits") as response:
        assert len(json.loads(await response.read())["circuits"]) == 2000


async def test_a_route_that_a_reload_took_away_shows_no_upstream(client: "Client", process: Administered) -> None:
    process.config = replace(process.config, routes=())
    assert (await get(client, "/v1/circuits/catalog"))["upstream"] == ""
