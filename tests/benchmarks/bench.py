"""Measure this sidecar beside its peers on the same work: `python tests/benchmarks/bench.py --help`.

An origin and wrk share one core, the proxy under load has the other. All proxies run from the start and take turns case
by case, so that neighbouring figures met the same noise. Everything stays on loopback and is stopped on every way out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.cases import CASES, CHECKS, CROWD, WARM_UP_SECONDS, Case, Sample, measure
from tests.benchmarks.origin import Origin
from tests.benchmarks.peers import LAUNCHERS, Peer, Site, start_peer
from tests.benchmarks.processes import Cores, Processes
from tests.benchmarks.report import Results, read_json, table, verdicts, write_json
from tests.support.call_count import WORK, Calls, calls_of

ROOT = Path(__file__).resolve().parents[2]
MICRO = ("bench_breaker", "bench_store")
INTERRUPTED = 130
QUIET = 0.5


def main() -> int:
    """Run what the arguments ask for; 130 when interrupted."""
    options = _arguments()
    facts = machine()
    if facts.load_average > QUIET:
        print(f"the machine is busy (load average {facts.load_average:.1f}): trust ratios, not figures")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = run(options.peers, Plan(options.only, options.seconds, options.rounds))
        micro = run_micro() if options.micro else {}
        calls = count_calls(options.only)
    except KeyboardInterrupt:
        return INTERRUPTED
    baseline = read_json(options.baseline) if options.baseline else None
    totals = {name: counted.total for name, counted in calls.items()}
    goals = verdicts(results, micro=micro, calls=totals, baseline=baseline)
    print("", facts.interpreter, table(results, micro, totals), sep="\n")
    for name, counted in calls.items():
        print(f"{name}: {counted.total:.1f} Python calls in {counted.modules} modules per request")
    print("", "Goals", *goals, sep="\n")
    more = {"machine": asdict(facts), "seconds": options.seconds, "rounds": options.rounds, "micro": micro}
    more["calls"] = totals
    write_json(options.json, results, goals, more)
    print(f"\nwritten to {options.json}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES] + list(CHECKS)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    add = parser.add_argument
    add("--seconds", type=int, default=3, help="length of each load (default: 3)")
    add("--rounds", type=int, default=3, help="how often each case is measured; medians are shown (default: 3)")
    add("--only", nargs="+", choices=names, default=names, metavar="CASE", help=f"of {', '.join(names)}")
    add("--peers", type=_peer_names, default=list(LAUNCHERS), help=f"of {','.join(LAUNCHERS)} (default: all found)")
    add("--json", type=Path, default=ROOT / "bench-results" / f"{now}.json", help="where the record goes")
    add("--baseline", type=Path, help="a record of an earlier run to compare with")
    add("--micro", action=argparse.BooleanOptionalAction, default=True, help="microbenchmarks too (default: yes)")
    return parser.parse_args()


def _peer_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(LAUNCHERS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return names


def run(peers: list[str], plan: Plan) -> Results:
    """Start origin and peers, put every wanted check and case on each, and stop them all."""
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, {cores.load})
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name, Processes() as processes:
        folder = Path(name)
        bench = Bench(start_all(processes, folder, cores, peers), plan, cores.load, folder)
        # The large body meets cold buffers; a thousand connections come last, for they leave a larger process behind.
        bench.check("body-1g")
        bench.measure([case for case in CASES if case.connections < CROWD])
        bench.check("crowd-1000")
        bench.measure([case for case in CASES if case.connections >= CROWD])
    return bench.results


@dataclass(frozen=True, slots=True)
class Plan:
    """Which cases and checks, how many seconds each load lasts, and how often it is repeated."""

    only: list[str]
    seconds: int
    rounds: int


class Bench:
    """The running peers, and what has been measured on them so far."""

    def __init__(self, peers: list[Peer], plan: Plan, core: int, folder: Path) -> None:
        self.results = Results()
        self._peers, self._plan, self._core, self._folder = peers, plan, core, folder

    def check(self, name: str) -> None:
        """Put one check on every peer."""
        if name in self._plan.only:
            for peer in self._peers:
                self.results.checks.extend(CHECKS[name](peer))

    def measure(self, cases: list[Case]) -> None:
        """Let the peers take turns, case by case, round by round."""
        wanted = [case for case in cases if case.name in self._plan.only]
        for case, peer in product(wanted, self._peers):
            self._load(case, peer, WARM_UP_SECONDS)
        for number, case, peer in product(range(1, self._plan.rounds + 1), wanted, self._peers):
            if sample := self._load(case, peer, self._plan.seconds):
                self.results.samples.append(sample)
                print(f"{number}  {case.name:<18} {peer.name:<8} {sample.cpu:8.1f} µs {sample.rate:8.0f}/s", flush=True)

    def _load(self, case: Case, peer: Peer, seconds: int) -> Sample | None:
        return measure(case, peer, core=self._core, seconds=seconds, folder=self._folder)


def start_all(processes: Processes, folder: Path, cores: Cores, peers: list[str]) -> list[Peer]:
    """The origin, then each wanted peer that is on this machine."""
    (folder / "origin").mkdir()
    origin = Origin(processes, folder / "origin", cores.load)
    running = []
    for name in peers:
        if not LAUNCHERS[name].is_here():
            print(f"{name}: not on this machine")
            continue
        (folder / name).mkdir()
        running.append(start_peer(name, Site(processes, folder / name, cores, origin)))
    return running


def run_micro() -> dict[str, float]:
    """The figures of the microbenchmarks that are here, by name."""
    figures: dict[str, float] = {}
    for name in (f"tests.benchmarks.{name}" for name in MICRO):
        if find_spec(name):
            figures |= import_module(name).run()
    return figures


def count_calls(cases: list[str]) -> dict[str, Calls]:
    """The Python calls of one request of each case of real traffic, by case."""
    return {name: asyncio.run(calls_of(work)) for name, work in WORK.items() if name in cases}


def is_optimized() -> bool:
    """Whether this Python was compiled with profile-guided optimization.

    Distributions do that by rules of their own, which leave no trace in it; version managers, as a rule, do not.
    """
    return "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")) or sys.base_prefix == "/usr"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were measured on. `optimized`: the Python was compiled with profile-guided optimization."""

    at: str
    kernel: str
    cpu: str
    cores: int
    load_average: float
    python: str
    optimized: bool

    @property
    def interpreter(self) -> str:
        """What is to be known of the Python before its figures are compared."""
        how = "with" if self.optimized else "WITHOUT (it takes a quarter more CPU than one with)"
        return f"Python {self.python}, compiled {how} profile-guided optimization"


def machine() -> Machine:
    """This machine, before the benchmark loads it."""
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        kernel=platform.release(),
        cpu=platform.machine(),
        cores=os.cpu_count() or 1,
        load_average=os.getloadavg()[0],
        python=platform.python_version(),
        optimized=is_optimized(),
    )


if __name__ == "__main__":
    sys.exit(main())
