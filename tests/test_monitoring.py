"""Alerts and dashboard: tested by promtool, and each query by a real Prometheus that scrapes a sidecar in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sidecar.adapters.metrics.families import FAMILIES
from tests.support.configured import written
from tests.support.origin import AGAIN, OK, READ, READ_HEAD, RESET
from tests.support.prometheus import prometheus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import LaunchSidecar, StartOrigin
    from tests.support.prometheus import Prometheus
    from tests.support.running import SidecarProcess

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "circuit-sidecar.json").read_text())
PANELS = {target["expr"]: panel["title"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
WANTED = {
    "SidecarCircuitOpenTooLong",
    "SidecarCircuitFlapping",
    "SidecarStaleServedTooLong",
    "SidecarOverrideForgotten",
    "SidecarRetryBudgetExhausted",
    "SidecarReloadFailed",
    "SidecarLoopLag",
}
NOT_PROVOKED = {"SidecarRetryBudgetExhausted"}
"""Its query is only seen to be one: no retries are configured in this scene."""
OF_OTHERS = re.compile(r"process_\w+|sidecar_retry_budget_exhausted_total")
METRIC = re.compile(r"\b(?:sidecar|process)_[a-z_]+")
STORABLE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
RANGE = re.compile(r"\[(?:\d+[mh]|\$__rate_interval)\]")


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_well_formed_and_fire_when_and_only_when_they_should() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    promtool("test", "rules", "rules_test.yaml")


def test_every_alert_is_there_and_tested_both_ways() -> None:
    tests = yaml.safe_load((RULES.parent / "rules_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {alert["alert"] for alert in ALERTS} == WANTED
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == WANTED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_an_entry_in_the_runbook(alert: dict[str, Any]) -> None:
    place, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = (DEPLOY.parent / place).read_text()
    assert f"\n### {alert['alert']}\n\n" in text
    assert anchor == alert["alert"].lower()


@pytest.mark.parametrize("query", [*PANELS, *(alert["expr"] for alert in ALERTS)])
def test_every_metric_that_is_asked_for_exists(query: str) -> None:
    named = {family.name for family in FAMILIES}
    for metric in METRIC.findall(query):
        name = re.sub(r"_(bucket|sum|count)$", "", metric)
        assert name in named or OF_OTHERS.fullmatch(name), metric


def test_the_dashboard_has_its_panels_apart() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert {"datasource", "job", "instance", "route"} == variables


def now(query: str) -> str:
    """The query with times that a test can wait for, and what the dashboard's variables stand for."""
    return re.sub(r"\$(job|instance|route)", ".*", RANGE.sub("[3s]", query))


async def ask_on_and_on(sidecar: SidecarProcess) -> None:
    while True:
        for path in ("/flaps/", "/stale/", "/forced/", "/well/"):
            await sidecar.get(path)
        await asyncio.sleep(0.05)


@pytest.fixture
async def trouble(
    start_origin: StartOrigin, launch_sidecar: LaunchSidecar, tmp_path: Path
) -> AsyncIterator[SidecarProcess]:
    """A sidecar with everything that the alerts are about, under traffic."""
    broken, well = await start_origin((READ_HEAD, RESET)), await start_origin((READ, OK, AGAIN))
    ages = await start_origin((READ, STORABLE), (READ_HEAD, RESET))
    off = {"mode": "off"}
    flaps = {"failure_threshold": 1, "open_duration": "100ms", "backoff": {"multiplier": 1, "jitter": "0%"}}
    text = written(
        {
            "flaps": {"url": broken.url, "cache": off, "breaker": flaps},
            "stale": {"url": ages.url, "cache": {"mode": "fallback"}},
            "forced": {"url": well.url, "cache": off},
            "well": {"url": well.url, "cache": off},
        },
        reload={"interval": "100ms"},
    )
    sidecar = await (await launch_sidecar(text)).ready()
    asking = asyncio.create_task(ask_on_and_on(sidecar))
    forced = {"mode": "forced_open", "ttl": "1h", "reason": "test", "actor": "test"}
    await sidecar.api("PUT", "/v1/circuits/forced/override", forced)
    (tmp_path / "sidecar0.yaml").write_text("upstreams: {a: {url: 17}}\n")
    await sidecar.printed("is invalid and was not loaded")
    yield sidecar
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


async def test_every_query_finds_what_it_is_about(trouble: SidecarProcess, tmp_path: Path) -> None:
    async with prometheus(tmp_path / "prometheus", trouble.addresses["telemetry"][0]) as asked:
        await provoke_lag(trouble)
        for alert in ALERTS:
            if alert["alert"] in NOT_PROVOKED:
                await asked.ask(now(alert["expr"]))
            else:
                await asked.until(now(alert["expr"]))
        for query, title in PANELS.items():
            assert await found(asked, now(query)), title


async def provoke_lag(sidecar: SidecarProcess) -> None:
    """Keep the process from running for longer than the alert takes for harmless."""
    sidecar.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.6)
    sidecar.process.send_signal(signal.SIGCONT)


async def found(asked: Prometheus, query: str) -> bool:
    values = await asked.ask(query)
    if not values:
        values = await asked.until(query)
    return bool(values)
