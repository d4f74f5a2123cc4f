"""What a circuit costs: time per request in closed state by kind and size of window, and memory per circuit.

`python tests/benchmarks/bench_breaker.py` prints a table; `run()` returns the figures.
"""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import BreakerSettings, CountWindow, TimeWindow, Window

CALLS = 20_000
ROUNDS = 10
CIRCUITS = 10_000
WINDOWS: dict[str, Window] = {
    "count 10": CountWindow(10),
    "count 100000": CountWindow(100_000),
    "time 10s": TimeWindow(10.0),
    "time 100000s": TimeWindow(100_000.0),
}
HOOKS = Hooks(random=lambda: 0.5, listener=lambda _: None, listener_failed=lambda _: None)


def new_circuit(settings: BreakerSettings) -> Circuit:
    return Circuit("bench", settings, HOOKS, 0.0)


class Subject:
    """A closed circuit under 1000 requests a second, of which some may fail."""

    def __init__(self, settings: BreakerSettings, failing_percent: int = 0) -> None:
        self.circuit = new_circuit(settings)
        self.ends = [
            Outcome.FAILURE if i * failing_percent % 100 < failing_percent else Outcome.SUCCESS for i in range(CALLS)
        ]
        self.now = 0.0
        self.best = float("inf")

    def measure(self) -> None:
        """One round; keeps the best CPU time in µs per ask and settle together."""
        circuit, now = self.circuit, self.now
        began = process_time()
        for end in self.ends:
            now += 0.001
            permit = circuit.ask(now, safe=True)
            if isinstance(permit, Permit):
                circuit.settle(permit, end, now)
        self.best = min(self.best, (process_time() - began) / CALLS * 1e6)
        self.now = now


def refusal_cost(circuit: Circuit) -> float:
    """µs per refusal of an open circuit."""
    for _ in range(5):
        permit = circuit.ask(0.0, safe=True)
        if isinstance(permit, Permit):
            circuit.settle(permit, Outcome.FAILURE, 0.0)
    began = process_time()
    for _ in range(CALLS):
        circuit.ask(1.0, safe=True)
    return (process_time() - began) / CALLS * 1e6


def memory(settings: BreakerSettings) -> float:
    """Bytes per circuit that has seen a few calls."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    circuits = [new_circuit(settings) for _ in range(CIRCUITS)]
    for circuit in circuits:
        permit = circuit.ask(1.0, safe=True)
        if isinstance(permit, Permit):
            circuit.settle(permit, Outcome.FAILURE, 1.0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / CIRCUITS


def run() -> dict[str, float]:
    """Every figure by name: µs of CPU per request, and bytes per circuit."""
    subjects = {name: Subject(BreakerSettings(window=window)) for name, window in WINDOWS.items()}
    subjects["one of 10000"] = Subject(BreakerSettings())
    subjects["slow_rate set"] = Subject(BreakerSettings(slow_rate=0.5))
    subjects["10 % failures"] = Subject(BreakerSettings(failure_threshold=11), failing_percent=10)
    others = [new_circuit(BreakerSettings()) for _ in range(CIRCUITS - 1)]
    for _ in range(ROUNDS):
        for subject in subjects.values():
            subject.measure()
    del others
    figures = {f"ask+settle µs, {name}": subject.best for name, subject in subjects.items()}
    figures["refusal µs"] = refusal_cost(new_circuit(BreakerSettings()))
    figures["bytes per circuit, time window"] = memory(BreakerSettings())
    figures["bytes per circuit, count 100"] = memory(BreakerSettings(window=CountWindow(100)))
    return figures


if __name__ == "__main__":
    for name, figure in run().items():
        print(f"{name:36} {figure:10.2f}")
