"""A reload through the real data plane (breaker.md 25, 26)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, GATE, OK, READ, READ_HEAD, RESET, RawOrigin
from tests.support.wire import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin
    from tests.support.messages import WireResponse

STORABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\nabc"
NO_CACHE = {"cache": {"mode": "off"}}
TRIPS_AT_ONCE = {"failure_threshold": 1, "open_duration": "1h"}


def upstream(origin: RawOrigin, **more: Any) -> dict[str, Any]:
    return {"url": origin.url, **NO_CACHE, **more}


async def tripped(sidecar: Configured, name: str) -> None:
    assert (await sidecar.get(f"/{name}/")).status == 502
    assert await sidecar.state_of(name) == "open"


# Routes


async def test_a_circuit_whose_settings_did_not_change_is_the_same_object(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin, broken = await start_origin(), await start_origin((READ_HEAD, RESET))
    upstreams = {"good": upstream(origin), "bad": upstream(broken, breaker=TRIPS_AT_ONCE)}
    sidecar = await configure(written(upstreams))
    await tripped(sidecar, "bad")
    circuits, stacks = dict(sidecar.running.data.routes.circuits), dict(sidecar.running.data.routes.stacks)
    since = (await sidecar.call("GET", "/v1/circuits/bad"))[1]["since"]

    verdict = await sidecar.reload(written({"new": upstream(origin), **upstreams}))

    assert verdict.change is not None
    assert (verdict.change.changed, verdict.change.unchanged) == (("new",), ("good", "bad"))
    for name in ("good", "bad"):
        assert sidecar.running.data.routes.circuits[name] is circuits[name]
        assert sidecar.running.data.routes.stacks[name] is stacks[name]
    assert await sidecar.state_of("bad") == "open"
    assert (await sidecar.call("GET", "/v1/circuits/bad"))[1]["since"] == since
    assert (await sidecar.get("/new/")).status == 200


async def test_changed_thresholds_keep_state_and_override(start_origin: StartOrigin, configure: Configure) -> None:
    broken = await start_origin((READ_HEAD, RESET))
    sidecar = await configure(written({"bad": upstream(broken, breaker=TRIPS_AT_ONCE)}))
    await tripped(sidecar, "bad")
    await sidecar.call("PUT", "/v1/circuits/bad/override", {"mode": "forced_open", "reason": "r", "actor": "a"})

    verdict = await sidecar.reload(written({"bad": upstream(broken, breaker={**TRIPS_AT_ONCE, "window": 50})}))

    assert verdict.change is not None
    assert verdict.change.changed == ("bad",)
    shown = (await sidecar.call("GET", "/v1/circuits/bad"))[1]
    assert (shown["state"], shown["effective_state"], shown["override"]["actor"]) == ("open", "forced_open", "a")


async def test_a_setting_is_found_where_it_stands_now(start_origin: StartOrigin, configure: Configure) -> None:
    text = written({"shop": upstream(await start_origin(), breaker=TRIPS_AT_ONCE)})
    sidecar = await configure(text)
    before = (await sidecar.call("GET", "/v1/circuits/shop"))[1]["config_ref"]

    await sidecar.reload("# one line more\n" + text)

    after = (await sidecar.call("GET", "/v1/circuits/shop"))[1]["config_ref"]
    assert after == f"{sidecar.file}:{int(before.rpartition(':')[2]) + 1}"


async def test_requests_in_flight_on_a_removed_route_finish(start_origin: StartOrigin, configure: Configure) -> None:
    slow, other = await start_origin((READ, GATE, OK, AGAIN)), await start_origin()
    sidecar = await configure(written({"slow": upstream(slow), "other": upstream(other)}))
    client = await sidecar.connect()
    await client.send(b"GET /slow/ HTTP/1.1\r\nHost: a\r\n\r\n")
    await slow.until(lambda seen: seen.requests)

    await sidecar.reload(written({"other": upstream(other)}))
    slow.gate.set()

    response: WireResponse = await client.response()
    assert (response.status, response.body) == (200, b"ok")
    assert (await client.exchange(b"GET /slow/ HTTP/1.1\r\nHost: a\r\n\r\n")).status == 404
    await slow.ended()


async def test_a_pinned_connection_lives_as_long_as_the_pool_it_was_made_for(
    start_origin: StartOrigin, configure: Configure
) -> None:
    asked = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    origin = await start_origin((READ, asked, AGAIN))
    sidecar = await configure(written({"shop": upstream(origin)}))
    client = await sidecar.connect()
    get = b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (await client.exchange(get)).status == 401

    await sidecar.reload(written({"shop": upstream(origin, breaker=TRIPS_AT_ONCE)}))
    assert (await client.exchange(get)).status == 401
    assert len(origin.connections) == 1

    await sidecar.reload(written({"shop": upstream(origin, pool={"max_connections": 7})}))
    await origin.ended()
    for _ in range(2):
        assert (await client.exchange(get)).status == 401
    assert len(origin.connections) == 2

    await sidecar.reload(written({"other": upstream(origin)}))
    await origin.ended(1)


async def test_a_pinned_connection_in_use_ends_after_its_exchange_when_the_pool_changes(
    start_origin: StartOrigin, configure: Configure
) -> None:
    asked = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    origin = await start_origin((READ, asked, READ, GATE, OK, AGAIN))
    sidecar = await configure(written({"shop": upstream(origin)}))
    client = await sidecar.connect()
    get = b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n"
    assert (await client.exchange(get)).status == 401
    await client.send(get)
    await origin.until(lambda seen: len(seen.requests) == 2)

    await sidecar.reload(written({"shop": upstream(origin, pool={"max_connections": 7})}))
    origin.gate.set()

    assert (await client.response()).status == 200
    await origin.ended()
    assert (await client.exchange(get)).status == 401


async def test_a_request_that_repeats_itself_goes_where_it_is_sent_now(
    start_origin: StartOrigin, configure: Configure
) -> None:
    old, new = await start_origin(), await start_origin()
    sidecar = await configure(written({"shop": upstream(old)}))
    client = await sidecar.connect()
    for _ in range(3):
        assert (await client.exchange(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200

    await sidecar.reload(written({"shop": upstream(new)}))
    for _ in range(2):
        assert (await client.exchange(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200

    assert (len(old.requests), len(new.requests)) == (3, 2)
    seen = [*old.requests, *new.requests]
    assert [request.get("host") for request in seen] == [*[old.url[7:].encode()] * 3, *[new.url[7:].encode()] * 2]
    assert len({request.get("x-request-id") for request in seen}) == 5


async def test_what_was_answered_from_memory_a_moment_ago_goes_where_it_is_sent_now(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin = await start_origin((READ, STORABLE, AGAIN))
    sidecar = await configure(written({"shop": {"url": origin.url, "cache": {"mode": "standard"}}}))
    client = await sidecar.connect()
    answers = [await client.exchange(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(9)]
    assert [b"; hit" in (answer.get("cache-status") or b"") for answer in answers] == [False, *[True] * 8]

    await sidecar.reload(written({"shop": upstream(origin)}))
    answer = await client.exchange(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")

    assert (answer.get("cache-status"), answer.body) == (None, b"abc")
    assert len(origin.requests) == 2


async def test_the_series_of_a_removed_route_disappear(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin()
    sidecar = await configure(written({"gone": upstream(origin), "stays": upstream(origin)}))
    assert (await sidecar.get("/gone/")).status == (await sidecar.get("/stays/")).status == 200

    await sidecar.reload(written({"stays": upstream(origin)}))

    samples = (await sidecar.metrics()).samples
    labels = {value for _, pairs in samples for _, value in pairs}
    assert "gone" not in labels
    assert (await sidecar.metrics()).total("sidecar_requests_total", route="stays") == 1
    assert (await sidecar.call("GET", "/v1/circuits/gone"))[0] == 404


async def test_a_changed_upstream_is_asked_from_then_on(start_origin: StartOrigin, configure: Configure) -> None:
    old, new = await start_origin(), await start_origin()
    sidecar = await configure(written({"shop": upstream(old)}))
    assert (await sidecar.get("/shop/")).status == 200

    await sidecar.reload(written({"shop": upstream(new)}))

    assert (await sidecar.get("/shop/")).status == 200
    assert (len(old.requests), len(new.requests)) == (1, 1)
    await old.ended()


async def test_an_override_that_a_switched_off_circuit_has_holds(
    start_origin: StartOrigin, configure: Configure
) -> None:
    origin = await start_origin()
    sidecar = await configure(written({"shop": upstream(origin, breaker={"mode": "off"})}))
    assert (await sidecar.get("/shop/")).status == 200

    await sidecar.call("PUT", "/v1/circuits/shop/override", {"mode": "forced_open", "reason": "r", "actor": "a"})
    assert (await sidecar.get("/shop/")).status == 503
    await sidecar.call("DELETE", "/v1/circuits/shop/override")

    assert (await sidecar.get("/shop/")).status == 200
    assert len(origin.requests) == 2


# What cannot be used


async def test_a_posted_configuration_is_judged_with_the_files_that_it_names(
    start_origin: StartOrigin, configure: Configure
) -> None:
    text = written({"shop": upstream(await start_origin())})
    sidecar = await configure(text)
    posted = written({"shop": {"url": "http://127.0.0.1:9"}}, admin={"token_file": "/nowhere/token"})

    status, problem = await sidecar.call("POST", "/v1/config/check", {"config": posted})

    assert status == 422
    assert ["/nowhere/token" in error["message"] for error in problem["errors"]] == [True]


BROKEN = {
    "syntax": "upstreams: {a: [\n",
    "unknown key": written({"shop": {"url": "http://127.0.0.1:9", "tiemouts": {}}}),
    "no upstream": written({}),
    "a CA file without a certificate": written({"shop": {"url": "https://127.0.0.1:9", "tls": {"ca_file": __file__}}}),
    "missing CA file": written({"shop": {"url": "https://127.0.0.1:9", "tls": {"ca_file": "/nowhere/ca.pem"}}}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
async def test_a_file_that_cannot_be_used_changes_nothing(
    start_origin: StartOrigin, configure: Configure, text: str
) -> None:
    sidecar = await configure(written({"shop": upstream(await start_origin())}))
    before = sidecar.running.control.config, sidecar.running.data.routes.stacks
    sidecar.write(text)

    status, problem = await sidecar.call("POST", "/v1/config/reload")

    assert status == 422
    assert problem["reason"] == "invalid_config"
    assert all(error["line"] >= 1 and error["column"] >= 1 and error["message"] for error in problem["errors"])
    assert (sidecar.running.control.config, sidecar.running.data.routes.stacks) == before
    assert (await sidecar.get("/shop/")).status == 200
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_config_reloads_total", result="error") == 1
    assert metrics.total("sidecar_config_last_reload_successful") == 0
    event = (await sidecar.call("GET", "/v1/events"))[1]["events"][-1]
    assert event["kind"] == "reload_failed"


async def test_a_good_reload_after_a_bad_one_is_well_again(start_origin: StartOrigin, configure: Configure) -> None:
    text = written({"shop": upstream(await start_origin())})
    sidecar = await configure(text)
    await sidecar.reload("nonsense")

    await sidecar.reload(text)

    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_config_reloads_total", result="success") == 1
    assert metrics.total("sidecar_config_last_reload_successful") == 1
    assert [event["kind"] for event in (await sidecar.call("GET", "/v1/events"))[1]["events"]] == [
        "reload_failed",
        "reload",
    ]


async def test_a_file_that_is_gone_is_said(start_origin: StartOrigin, configure: Configure) -> None:
    sidecar = await configure(written({"shop": upstream(await start_origin())}))
    assert sidecar.file is not None
    sidecar.file.unlink()

    status, problem = await sidecar.call("POST", "/v1/config/reload")

    assert status == 422
    assert "cannot read the file" in problem["errors"][0]["message"]
    assert (await sidecar.get("/shop/")).status == 200


# What waits for a restart


async def test_what_needs_a_restart_is_told_and_not_used(
    start_origin: StartOrigin, configure: Configure, tmp_path: Path
) -> None:
    shop = {"shop": upstream(await start_origin())}
    sidecar = await configure(written(shop))
    proxy = {"listen": "127.0.0.1:0", "via": "other", "limits": {"keep_alive": "1s"}, "drain_timeout": "3s"}
    sidecar.write(written(shop, proxy=proxy, state_dir=str(tmp_path / "state"), cache={"max_size": "1MiB"}))

    status, answer = await sidecar.call("POST", "/v1/config/reload")

    waiting = ["proxy.limits.keep_alive", "proxy.via", "cache.max_size", "state_dir"]
    assert (status, answer["changed"], answer["unchanged"]) == (200, [], ["shop"])
    assert sorted(answer["needs_restart"]) == sorted(waiting)
    info = (await sidecar.call("GET", "/v1/info"))[1]
    assert info["needs_restart"] == answer["needs_restart"]
    shown = (await sidecar.call("GET", "/v1/config"))[1]
    assert (shown["proxy"]["via"], shown["state_dir"], shown["cache"]["max_size"]) == ("sidecar", None, 64 * 2**20)
    assert shown["proxy"]["drain_timeout"] == 3.0
    assert (await sidecar.get("/shop/")).get("via") == b"1.1 sidecar"
    event = (await sidecar.call("GET", "/v1/events"))[1]["events"][-1]
    assert "needs a restart: " in event["message"]


# Asking first


async def test_a_check_changes_nothing(start_origin: StartOrigin, configure: Configure) -> None:
    shop = upstream(await start_origin())
    sidecar = await configure(written({"shop": shop}))
    wanted = written({"shop": shop, "new": shop})

    posted = await sidecar.call("POST", "/v1/config/check", {"config": wanted})
    on_disk = await sidecar.call("POST", "/v1/config/check")

    difference = ["upstream new: added", "route new: added"]
    told = {"changed": ["new"], "unchanged": ["shop"], "needs_restart": [], "difference": difference, "warnings": []}
    assert posted == (200, told)
    assert on_disk[1]["changed"] == []
    assert (await sidecar.get("/new/")).status == 404
    assert (await sidecar.metrics()).total("sidecar_config_reloads_total") == 0


async def test_a_text_that_is_sent_learns_nothing_of_the_environment(
    start_origin: StartOrigin, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "hunter2")
    shop = upstream(await start_origin())
    sidecar = await configure(written({"shop": shop}))

    for spied in ("${SHOP_TOKEN}", "x-${SHOP_TOKEN:-nothing}"):
        asked = written({"shop": shop}, routes=[{"name": spied, "match": {"prefix": "/"}, "upstream": "shop"}])
        _, answer = await sidecar.call("POST", "/v1/config/check", {"config": asked})
        assert "hunter2" not in str(answer)

    sidecar.write(written({"shop": {**shop, "breaker": {"mode": "${BREAKER_MODE:-observe}"}}}))
    assert (await sidecar.call("POST", "/v1/config/check"))[1]["changed"] == ["shop"]


async def test_a_check_of_the_file_sees_what_it_says_now(start_origin: StartOrigin, configure: Configure) -> None:
    shop = upstream(await start_origin())
    sidecar = await configure(written({"shop": shop}))
    sidecar.write(written({"shop": shop, "new": shop}))

    assert (await sidecar.call("POST", "/v1/config/check"))[1]["changed"] == ["new"]


# One after the other


async def test_requests_for_a_reload_that_come_together_make_one(
    start_origin: StartOrigin, configure: Configure
) -> None:
    sidecar = await configure(written({"shop": upstream(await start_origin())}))
    for _ in range(10):
        sidecar.running.control.reloader.request()
    await eventually(lambda: len(sidecar.running.control.events) == 1)

    sidecar.running.control.reloader.request()
    await eventually(lambda: len(sidecar.running.control.events) == 2)

    assert (await sidecar.metrics()).total("sidecar_config_reloads_total", result="success") == 2


async def test_reloads_under_load_lose_no_request(start_origin: StartOrigin, configure: Configure) -> None:
    shop = upstream(await start_origin())
    texts = [written({"shop": {**shop, "timeouts": {"connect": f"{seconds}s"}}}) for seconds in (1, 2)]
    sidecar = await configure(texts[0])
    stop = asyncio.Event()

    async def talk() -> list[int]:
        client, statuses = await sidecar.connect(), []
        while not stop.is_set():
            statuses.append((await client.exchange(b"GET /shop/ HTTP/1.1\r\nHost: a\r\n\r\n")).status)
        return statuses

    talking = asyncio.gather(*(talk() for _ in range(8)))
    for number in range(10):
        await sidecar.reload(texts[number % 2])
    stop.set()

    statuses = [status for each in await talking for status in each]
    assert set(statuses) == {200}
