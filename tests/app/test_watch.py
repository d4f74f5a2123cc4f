"""The configuration file is watched: nothing in a pod tells of its change."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.adapters.config_file import load
from sidecar.app import RealClock, build
from sidecar.app import reload as reloading
from tests.support.config_map import ConfigMap
from tests.support.configured import Configured, written
from tests.support.origin import READ_HEAD, RESET
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.core.config import Config
    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin

SOON = {"interval": "20ms"}
NO_CACHE = {"mode": "off"}


@pytest.fixture(autouse=True)
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "SETTLE", 0.01)


def text_for(url: str, *names: str, reload: dict[str, Any] = SOON, **more: Any) -> str:
    return written({name: {"url": url, "cache": NO_CACHE, **more} for name in names}, reload=reload)


def routes_of(sidecar: Configured) -> set[str]:
    return set(sidecar.running.data.routes.stacks)


async def routes_become(sidecar: Configured, names: set[str]) -> None:
    await eventually(lambda: routes_of(sidecar) == names)


async def kinds(sidecar: Configured) -> list[str]:
    return [event["kind"] for event in (await sidecar.call("GET", "/v1/events"))[1]["events"]]


@pytest.fixture
async def mounted(tmp_path: Path, start_origin: StartOrigin) -> AsyncIterator[tuple[ConfigMap, Configured, str]]:
    """A sidecar whose file is a link of a ConfigMap, the ConfigMap, and the URL of its origin."""
    url = (await start_origin()).url
    mount = ConfigMap(tmp_path / "etc", text_for(url, "shop"))
    config = load(mount.file, {}).config
    assert config is not None
    app = build(config, RealClock())
    await app.start()
    sidecar = Configured(app.addresses, app=app, file=mount.file)
    yield mount, sidecar, url
    sidecar.hang_up()
    await sidecar.stop()


def config_of(tmp_path: Path) -> Config:
    file = tmp_path / "plain.yaml"
    file.write_text('upstreams: {shop: {url: "http://127.0.0.1:9"}}\n')
    loaded = load(file, {})
    assert loaded.config is not None
    return loaded.config


def test_it_is_on_by_default_every_two_seconds(tmp_path: Path) -> None:
    reload = config_of(tmp_path).reload
    assert (reload.watch, reload.interval) == (True, 2.0)


async def test_each_swap_of_a_config_map_is_used(mounted: tuple[ConfigMap, Configured, str]) -> None:
    mount, sidecar, url = mounted
    for name in ("one", "two", "three"):
        mount.change(text_for(url, "shop", name))
        await routes_become(sidecar, {"shop", name})
        assert (await sidecar.get(f"/{name}/")).status == 200
    assert await kinds(sidecar) == ["reload"] * 3


async def test_a_file_that_is_written_in_place_or_replaced_is_used(
    start_origin: StartOrigin, configure: Configure
) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url, "shop"))
    assert sidecar.file is not None

    sidecar.write(text_for(url, "shop", "written"))
    await routes_become(sidecar, {"shop", "written"})

    draft = sidecar.file.with_suffix(".new")
    draft.write_text(text_for(url, "shop", "renamed"))
    draft.rename(sidecar.file)
    await routes_become(sidecar, {"shop", "renamed"})


async def test_a_change_is_logged_with_its_difference(
    start_origin: StartOrigin, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url, "shop"))
    with caplog.at_level(logging.INFO, "sidecar.app.reload"):
        sidecar.write(text_for(url, "shop", breaker={"failure_threshold": 3}))
        await eventually(lambda: len(caplog.records) == 1)
    difference = ["route shop: breaker.failure_threshold: 5 → 3"]
    assert caplog.records[0].__dict__["difference"] == difference
    event = (await sidecar.call("GET", "/v1/events"))[1]["events"][-1]
    assert event["details"]["difference"] == difference


async def test_a_bad_file_is_told_once_per_change_with_the_text_of_check(
    start_origin: StartOrigin, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url, "shop"))
    assert sidecar.file is not None
    records = caplog.records
    for nonsense in ("upstreams: {a: {url: 17}}\n", "upstreams: {a: {url: true}}\n"):
        told = len(records)
        sidecar.write(nonsense)
        await eventually(lambda told=told: len(records) > told)  # type: ignore[misc]  # mypy knows no such lambda
        await asyncio.sleep(0.1)  # five looks
        assert len(records) == told + 1

    (problem,) = load(sidecar.file, {}).errors
    assert problem.message in str(caplog.records[-1].__dict__["errors"])
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_config_reloads_total", result="error") == 2
    assert metrics.total("sidecar_config_last_reload_successful") == 0
    assert await kinds(sidecar) == ["reload_failed"] * 2
    assert (await sidecar.get("/shop/")).status == 200

    sidecar.write(text_for(url, "shop", "new"))
    await routes_become(sidecar, {"shop", "new"})
    assert (await sidecar.metrics()).total("sidecar_config_last_reload_successful") == 1


async def test_a_file_that_was_missing_is_waited_for(
    start_origin: StartOrigin, configure: Configure, tmp_path: Path
) -> None:
    """A Secret may be mounted after the ConfigMap that names it has changed."""
    url, ca = (await start_origin()).url, tmp_path / "ca.pem"
    sidecar = await configure(text_for(url, "shop"))
    named = written(
        {"shop": {"url": url, "cache": NO_CACHE}, "new": {"url": "https://127.0.0.1:9", "tls": {"ca_file": str(ca)}}},
        reload=SOON,
    )
    sidecar.write(named)
    await eventually(lambda: len(sidecar.running.control.events) == 1)

    ca.write_bytes(certificate())
    await routes_become(sidecar, {"shop", "new"})

    assert await kinds(sidecar) == ["reload_failed", "reload"]


def certificate() -> bytes:
    import trustme  # noqa: PLC0415 - slow to import, for one test

    return trustme.CA().cert_pem.bytes()


async def test_what_was_read_because_somebody_asked_is_not_read_again(
    start_origin: StartOrigin, configure: Configure
) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url, "shop", reload={"interval": "1h"}))

    await sidecar.reload(text_for(url, "shop", reload=SOON))
    watching = asyncio.ensure_future(sidecar.running.control.reloader.watch())
    await asyncio.wait({watching}, timeout=0.2)  # ten looks
    watching.cancel()

    assert await kinds(sidecar) == ["reload"]


async def test_an_open_circuit_survives_a_change_of_another_route(
    start_origin: StartOrigin, configure: Configure
) -> None:
    good, broken = (await start_origin()).url, (await start_origin((READ_HEAD, RESET))).url
    trips = {"failure_threshold": 1, "open_duration": "1h"}
    upstreams: dict[str, Any] = {"bad": {"url": broken, "cache": NO_CACHE, "breaker": trips}}
    sidecar = await configure(written(upstreams, reload=SOON))
    assert (await sidecar.get("/bad/")).status == 502

    sidecar.write(written({**upstreams, "good": {"url": good, "cache": NO_CACHE}}, reload=SOON))
    await routes_become(sidecar, {"bad", "good"})

    assert await sidecar.state_of("bad") == "open"


async def test_switched_off_nothing_is_read_until_it_is_asked_for(
    start_origin: StartOrigin, configure: Configure
) -> None:
    url = (await start_origin()).url
    off = {"watch": False, **SOON}
    sidecar = await configure(text_for(url, "shop", reload=off))
    sidecar.write(text_for(url, "shop", "new", reload=off))
    await asyncio.sleep(0.2)  # ten looks, if there were any
    assert routes_of(sidecar) == {"shop"}

    status, answer = await sidecar.call("POST", "/v1/config/reload")

    assert (status, answer["changed"]) == (200, ["new"])
