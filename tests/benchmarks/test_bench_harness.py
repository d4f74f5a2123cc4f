"""The harness itself, on a real nginx under real loads of one second. No figure is compared with a time of day."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.cases import CASES, Case, Check, Sample, check_crowd, check_large_body, measure
from tests.benchmarks.load import ask_and_check, get
from tests.benchmarks.origin import Origin
from tests.benchmarks.peers import Peer, Site, start_sidecar
from tests.benchmarks.processes import Cores, Processes, family, free_port
from tests.benchmarks.report import Results, Verdict, read_json, table, verdicts, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

CASE = {case.name: case for case in CASES}
CORES = Cores.of_this_machine()

BURN_AND_LISTEN = """
import os, socket, sys, time
child = os.fork()
while time.process_time() < 0.3: pass
if child:
    os.waitpid(child, 0)
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        while True: listener.accept()
"""


@pytest.fixture(scope="module")
def origin_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The origin itself in a proxy's place: the loads reach it directly."""
    with Processes() as processes:
        origin = Origin(processes, tmp_path_factory.mktemp("origin"), CORES.proxy)
        yield Peer("nginx", origin.process, origin.port, origin.port)


def test_cpu_time_is_that_of_the_process_and_of_its_ended_children(tmp_path: Path) -> None:
    port = free_port()
    with Processes() as processes:
        burner = processes.start([sys.executable, "-c", BURN_AND_LISTEN, str(port)], CORES.proxy, tmp_path / "log")
        burner.wait_listening(port)
        # Both burnt 0.3 s by their own clocks; starting the interpreter costs a little more.
        assert 0.55 < burner.cpu_seconds() < 1.5


def test_everything_started_has_ended_when_the_context_is_left_by_an_exception(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with Processes() as processes:
            pids.extend(family(Origin(processes, tmp_path, CORES.proxy).process.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_program_that_ends_instead_of_listening_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Processes() as processes:
        failing = processes.start(
            [sys.executable, "-c", "raise SystemExit('no licence')"], CORES.proxy, tmp_path / "log"
        )
        with pytest.raises(RuntimeError, match="no licence"):
            failing.wait_listening(free_port())


def test_cpu_per_request_is_what_the_kernel_charged_for_the_requests_that_wrk_counted(
    origin_alone: Peer, tmp_path: Path
) -> None:
    before = origin_alone.process.cpu_seconds()
    sample = measure(CASE["repeated-1k"], origin_alone, core=CORES.load, seconds=1, folder=tmp_path)
    charged = origin_alone.process.cpu_seconds() - before
    assert sample is not None
    assert sample.errors == 0
    assert 0 < sample.core <= charged
    assert sample.cpu * sample.rate / 1e6 == pytest.approx(sample.core)
    assert 0 < sample.p50 <= sample.p99
    assert 0 < sample.pss <= sample.rss


@pytest.mark.parametrize(("path", "refused"), [("/no-store/absent", False), ("/no-store/1k", True)])
def test_an_answer_with_the_wrong_status_is_an_error(
    origin_alone: Peer, tmp_path: Path, path: str, *, refused: bool
) -> None:
    sample = measure(Case("wrong", path, refused=refused), origin_alone, core=CORES.load, seconds=1, folder=tmp_path)
    assert sample is not None
    assert sample.errors > 0


def test_a_case_that_needs_a_circuit_is_not_put_on_a_proxy_without_one(origin_alone: Peer, tmp_path: Path) -> None:
    assert measure(CASE["repeated-refused"], origin_alone, core=CORES.load, seconds=1, folder=tmp_path) is None


def test_the_sidecar_is_set_up_with_an_open_circuit_and_with_and_without_policies(tmp_path: Path) -> None:
    with Processes() as processes:
        (tmp_path / "origin").mkdir()
        origin = Origin(processes, tmp_path / "origin", CORES.load)
        peer = start_sidecar(Site(processes, tmp_path, CORES, origin))
        found = [get(peer.proxy_port, f"/{route}/no-store/1k") for route in ("bare", "guarded", "doomed")]
    assert [status for status, _ in found] == [200, 200, 503]


def test_every_client_of_a_crowd_gets_its_own_answer(origin_alone: Peer) -> None:
    figures = {check.name: check.figure for check in check_crowd(origin_alone)}
    assert figures == {"crowd-1000 lost": 0, "crowd-1000 wrong": 0, "crowd-1000 right": 20_000}


def test_an_answer_that_never_comes_is_counted_as_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tally = ask_and_check(silent.getsockname()[1], connections=2, rounds=3, seconds=0.05)
    assert (tally.right, tally.wrong, tally.lost) == (0, 0, 6)


def test_a_large_body_arrives_whole_and_its_cost_in_memory_is_seen(origin_alone: Peer) -> None:
    figures = {check.name: check.figure for check in check_large_body(origin_alone)}
    assert figures["body-1g missing"] == 0
    assert 0 <= figures["body-1g growth"] < 1024


def sample(case: str, peer: str, cpu: float, rss: float = 20.0) -> Sample:
    return Sample(case, peer, cpu=cpu, rate=1000.0, core=0.5, p50=100, p99=200, errors=0, rss=rss, pss=rss)


def three_rounds() -> Results:
    pairs = [(30.0, 60.0), (90.0, 100.0), (33.0, 60.0)]
    samples = [(sample("real-get", "sidecar", one), sample("real-get", "envoy", other, 60.0)) for one, other in pairs]
    return Results((one for pair in samples for one in pair), [Check("crowd-1000 lost", "sidecar", 3, "answers")])


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert three_rounds().ratio("real-get", "sidecar", "real-get", "envoy") == pytest.approx(0.55)


def test_goals_are_met_or_missed_or_were_not_measured() -> None:
    micro = {"ask+settle µs, count 10": 1.0, "ask+settle µs, time 10s": 1.5, "refusal µs": 9.0}
    micro |= {"1000000 entries: get often used µs": 0.3, "10 entries: get often used µs": 0.2}
    lines = {verdict.what: str(verdict).split() for verdict in verdicts(three_rounds(), micro=micro)}
    assert lines["real GET, CPU against Envoy"][:2] == ["met", "0.55"]
    assert lines["resident after all sizes, against Envoy"][:2] == ["met", "0.33"]
    assert lines["1000 connections, lost answers"][:2] == ["MISSED", "3.00"]
    assert lines["ask and settle in a closed circuit, dearest window"][:2] == ["met", "1.50"]
    assert lines["a hit among 1 M entries, against among 10"][:2] == ["MISSED", "1.50"]
    assert lines["growth during a 1 GB body"][:2] == ["not", "measured"]


def test_the_table_has_a_line_for_each_case_and_peer_each_check_and_each_small_figure() -> None:
    header, sidecar, envoy, check, small = table(three_rounds(), {"refusal µs": 1.5}).splitlines()
    assert header.split()[:4] == ["case", "peer", "µs/request", "×envoy"]
    assert sidecar.split()[:5] == ["real-get", "sidecar", "33.0", "0.55", "–"]
    assert envoy.split()[:5] == ["real-get", "envoy", "60.0", "1.00", "–"]
    assert small.split() == ["refusal", "µs", "1.50"]
    assert check.split() == ["crowd-1000", "lost", "sidecar", "3.0", "answers"]


def test_a_written_record_reads_back_and_serves_as_a_baseline(tmp_path: Path) -> None:
    path = tmp_path / "results" / "run.json"
    write_json(path, three_rounds(), verdicts(three_rounds()), {"seconds": 1})
    baseline = read_json(path)
    assert baseline.samples == three_rounds().samples
    assert baseline.checks == three_rounds().checks
    last = verdicts(three_rounds(), baseline=baseline)[-1]
    assert last == Verdict("real GET relative to Envoy, against the baseline", 1.0, 1.03)


def test_the_command_prints_a_table_and_writes_a_record(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    options = ["--seconds", "1", "--rounds", "1", "--peers", "nginx", "--only", "repeated-hit-1k", "--no-micro"]
    script = Path(__file__).with_name("bench.py")
    done = subprocess.run(
        [sys.executable, script, *options, "--json", record], check=True, capture_output=True, text=True, timeout=50
    )
    assert [(one.case, one.peer, one.errors) for one in read_json(record).samples] == [("repeated-hit-1k", "nginx", 0)]
    assert "repeated hit, CPU against nginx" in done.stdout
