"""The cascading failure, rehearsed with real processes and a real slow upstream: with the policies, and without.

The traffic is lighter than the demo's, for tests share their machine: what is asserted are counts, and times only where
they differ by more than a busy machine adds.
"""

from __future__ import annotations

import asyncio
import signal
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.config_file import load
from sidecar.adapters.demo_load import FALLBACK, NOTHING, UPSTREAM, Answered
from sidecar.demo.cascade import KEPT, MISSED, WITH, WITHOUT, cascade_config, rehearse, run_cascade
from sidecar.demo.outage import Ports
from sidecar.demo.plot import drawing
from sidecar.demo.rehearsal import FALTERING, HEALTHY, SLOW, Load, Run, Scenario, goals, quantile, report
from tests.support.wire import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIGHT = Scenario(rate=100, healthy=2, faltering=2, slow=6, recovery=5)
SLACK = 1.0
"""Seconds by which a busy machine may be late, where the policies have set a time."""


async def test_the_policies_keep_a_slow_upstream_from_taking_its_clients_along() -> None:
    async with asyncio.timeout(LIGHT.duration + 3 * PATIENCE):
        without, guarded = await asyncio.gather(rehearse(LIGHT, WITHOUT), rehearse(LIGHT, WITH))

    assert len(without.answers) == len(guarded.answers) == LIGHT.rate * LIGHT.duration
    # Without policies the clients wait for the upstream, and in vain; the upstream gets all of it.
    assert without.quantile(SLOW, 0.5) > 10 * without.quantile(HEALTHY, 0.5)
    # (Who comes last may still have patience when the upstream is back, more of them on a busy machine.)
    assert without.answered(SLOW)[NOTHING] > 0.2
    assert without.upstream_share(SLOW) > 0.5
    assert without.answered(FALTERING)[NOTHING] > 0.3
    # With them nobody goes without an answer, and hardly anybody has waited for the upstream. (The demo looks at 99 %;
    # of so few requests a machine that stands still for a moment makes more than that late.)
    assert guarded.answered(FALTERING)[NOTHING] == guarded.answered(SLOW)[NOTHING] == 0
    assert guarded.quantile(SLOW, 0.95) < LIGHT.first_byte
    assert guarded.upstream_share(SLOW) < 0.02
    assert 1 < guarded.amplification <= 1 + LIGHT.budget
    assert guarded.recovered_after <= LIGHT.open_duration + LIGHT.ramp + SLACK
    assert drawing([without, guarded]).count("<polyline") == 4


@pytest.mark.parametrize("policies", [False, True])
def test_its_configurations_are_without_errors_and_warnings(tmp_path: Path, *, policies: bool) -> None:
    file = tmp_path / "cascade.yaml"
    file.write_text(cascade_config(Scenario(), Ports(), 8080, policies=policies))
    assert list(load(file, {}).problems) == []


SHORT = Scenario(rate=10, healthy=1, faltering=1, slow=2, recovery=2)


def run(*answers: Answered, loads: tuple[Load, ...] = (), name: str = "n") -> Run:
    return Run(name, SHORT, answers, loads)


def steady(by: str, begin: float, end: float, took: float = 0.02) -> list[Answered]:
    return [Answered(begin + number / 10, took, by) for number in range(round((end - begin) * 10))]


def test_the_figures_of_a_run_are_those_of_its_answers() -> None:
    loads = (Load(0, 0, 0), Load(0.99, 10, 0), Load(1.99, 20, 4), Load(3.99, 21, 4), Load(5.99, 31, 4))
    answers = steady(UPSTREAM, 0, 2) + steady(FALLBACK, 2, 5, 0.01) + steady(UPSTREAM, 5, 6)
    shown = run(*answers, loads=loads)
    assert (len(shown.during(HEALTHY)), len(shown.during(SLOW))) == (10, 20)
    assert shown.quantile(SLOW, 0.99) == 0.01
    assert shown.answered(SLOW) == {UPSTREAM: 0, FALLBACK: 1, NOTHING: 0}
    assert shown.upstream_share(SLOW) == 1 / 20
    assert shown.amplification == 35 / 31
    assert shown.recovered_after == pytest.approx(0.9)
    assert [goal.met for goal in goals(shown)] == [True, False, True, True]
    assert "MISSED" in report(shown, shown)


def test_traffic_that_never_left_has_recovered_at_once() -> None:
    assert run(*steady(UPSTREAM, 0, 6)).recovered_after == 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_not_exceeded_by_its_share(share: float, value: float) -> None:
    assert quantile(list(range(100, 0, -1)), share) == value


def test_the_picture_shows_each_phase_and_each_run() -> None:
    loads = (Load(-1, 0, 0), Load(0.5, 5, 0), Load(1, 10, 0), Load(2, 900, 0))
    answers = steady(UPSTREAM, 0, 6)
    picture = drawing([run(*answers, loads=loads, name="a < b"), run(*answers, loads=loads, name="b")])
    texts = [element.text for element in ET.fromstring(picture).iter() if element.text and element.text.strip()]  # noqa: S314 - our own
    assert {"healthy", "faltering", "slow", "recovery", "a < b", "b"} <= set(texts)


@pytest.fixture
def handler_of_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handler_of_sigterm")
def test_the_command_says_by_its_exit_code_whether_the_goals_were_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = (Load(0, 0, 0), Load(0.99, 10, 0), Load(1.99, 20, 0), Load(3.99, 20, 0), Load(5.99, 40, 0))
    well = run(*steady(UPSTREAM, 0, 6), loads=loads)

    async def rehearsed(_scenario: Scenario, _name: str) -> Run:
        return well

    monkeypatch.setattr("sidecar.demo.cascade.rehearse", rehearsed)
    plot = tmp_path / "cascade.svg"
    assert run_cascade(plot, SHORT) == KEPT
    assert f"drawn into {plot}" in capsys.readouterr().out
    assert plot.read_text().startswith("<svg")
    well = run(*steady(UPSTREAM, 0, 6), loads=(*loads[:3], Load(3.99, 40, 0), Load(5.99, 60, 0)))
    assert run_cascade(None, SHORT) == MISSED
