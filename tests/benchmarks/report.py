"""What a run's samples say: the table, the goals met or missed, and the JSON record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.benchmarks.cases import CASES, CROWD, Check, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

COLUMNS = (
    "case",
    "peer",
    "µs/request",
    "×envoy",
    "×nginx",
    "requests/s",
    "p50 µs",
    "p99 µs",
    "RSS",
    "PSS",
    "core",
    "errors",
    "calls",
)
ROW = "{:<18} {:<8} {:>10} {:>7} {:>7} {:>10} {:>8} {:>8} {:>6} {:>6} {:>5} {:>6} {:>6}"


OFTEN_USED = ("1000000 entries: get often used µs", "10 entries: get often used µs")
NOTHING: Mapping[str, float] = MappingProxyType({})


class Results:
    """All samples of a run, and all checks."""

    def __init__(self, samples: Iterable[Sample] = (), checks: Iterable[Check] = ()) -> None:
        self.samples = list(samples)
        self.checks = list(checks)

    def of(self, case: str, peer: str) -> list[Sample]:
        """One case of one peer, round by round."""
        return [sample for sample in self.samples if (sample.case, sample.peer) == (case, peer)]

    def ratio(self, case: str, peer: str, to_case: str, to_peer: str) -> float | None:
        """CPU per request, relative. The median of the rounds' own ratios: neighbours in time had the same noise."""
        pairs = zip(self.of(case, peer), self.of(to_case, to_peer), strict=False)
        ratios = [one.cpu / other.cpu for one, other in pairs if other.cpu]
        return median(ratios) if ratios else None

    def against(self, case: str, peer: str) -> float | None:
        """The sidecar's CPU per request, relative to a peer's on the same work."""
        return self.ratio(case, "sidecar", case, peer)

    def within(self, case: str, other: str) -> float | None:
        """The sidecar's CPU per request, relative to its own on other work."""
        return self.ratio(case, "sidecar", other, "sidecar")

    def typical(self, case: str, peer: str, field: str) -> float | None:
        """The median of one figure over the rounds."""
        values = [getattr(sample, field) for sample in self.of(case, peer)]
        return median(values) if values else None

    def check(self, name: str, peer: str) -> float | None:
        """A check's figure."""
        return next((check.figure for check in self.checks if (check.name, check.peer) == (name, peer)), None)

    def first_rss(self, peer: str) -> float | None:
        """MiB after the first load, which is of small bodies."""
        return next((sample.rss for sample in self.samples if sample.peer == peer), None)

    def loaded_rss(self, peer: str) -> float | None:
        """MiB after the loads of ordinary width, at the most."""
        ordinary = {case.name for case in CASES if case.connections < CROWD}
        return max(
            (sample.rss for sample in self.samples if sample.peer == peer and sample.case in ordinary), default=None
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured; None where this run did not measure it."""

    what: str
    figure: float | None
    goal: float
    unit: str = "×"

    def __str__(self) -> str:
        if self.figure is None:
            return f"      not measured  {self.what}"
        word = "met" if self.figure <= self.goal else "MISSED"
        return f"{word:>6}  {self.figure:8.2f} ≤ {self.goal:g} {self.unit}  {self.what}"


def verdicts(
    results: Results,
    *,
    micro: Mapping[str, float] = NOTHING,
    calls: Mapping[str, float] = NOTHING,
    baseline: Results | None = None,
) -> list[Verdict]:
    """The product's goals, in the order of the cases. `calls`: Python calls per request, by case."""
    against = results.against
    return [
        Verdict("real GET, CPU against Envoy", against("real-get", "envoy"), 0.65),
        Verdict("real POST, CPU against Envoy", against("real-post", "envoy"), 0.65),
        Verdict("real hits, CPU against nginx", against("real-hits", "nginx"), 1.9),
        Verdict("real stale answers, CPU against real hits", results.within("real-stale", "real-hits"), 1.2),
        Verdict("real refusals, CPU against real GET", results.within("real-refused", "real-get"), 0.4),
        Verdict("every policy, CPU against none", results.within("real-get-guarded", "real-get-bare"), 1.15),
        Verdict("Python calls of a real GET", calls.get("real-get"), 80, "calls"),
        Verdict("Python calls of a real hit", calls.get("real-hits"), 50, "calls"),
        Verdict("repeated GET, CPU against Envoy", against("repeated-1k", "envoy"), 0.65),
        Verdict("repeated hit, CPU against nginx", against("repeated-hit-1k", "nginx"), 1.9),
        Verdict("100 KB, CPU against Envoy", against("repeated-100k", "envoy"), 1.0),
        Verdict("10 MB, CPU against Envoy", against("repeated-10m", "envoy"), 1.0),
        Verdict("p99 during 500 half requests, against without", _slowloris(results), 2.0),
        Verdict("resident after small bodies, against Envoy", _quotient(results.first_rss, "sidecar", "envoy"), 0.75),
        Verdict("resident after all sizes, against Envoy", _quotient(results.loaded_rss, "sidecar", "envoy"), 0.75),
        Verdict("errors under load, all cases", _errors(results, "sidecar"), 0, "answers"),
        Verdict("1000 connections, lost answers", results.check("crowd-1000 lost", "sidecar"), 0, "answers"),
        Verdict("1000 connections, wrong answers", results.check("crowd-1000 wrong", "sidecar"), 0, "answers"),
        Verdict("growth during a 1 GB body", results.check("body-1g growth", "sidecar"), 20, "MiB"),
        Verdict("1 GB body, missing", results.check("body-1g missing", "sidecar"), 0, "bytes"),
        Verdict("ask and settle in a closed circuit, dearest window", _dearest(micro, "ask+settle µs, "), 2.0, "µs"),
        Verdict("a hit among 1 M entries, against among 10", _quotient(micro.get, *OFTEN_USED), 1.1),
        Verdict(
            "puts that stall for more than 5 ms, 1 M entries", micro.get("1000000 entries: puts over 5 ms"), 0, "puts"
        ),
        *_against(baseline, results),
    ]


def _against(baseline: Results | None, results: Results) -> list[Verdict]:
    if baseline is None:
        return []

    def relative(of: Results) -> float | None:
        return of.against("real-get", "envoy")

    now, then = relative(results), relative(baseline)
    change = now / then if now and then else None
    return [Verdict("real GET relative to Envoy, against the baseline", change, 1.03)]


def _slowloris(results: Results) -> float | None:
    return _quotient(lambda case: results.typical(case, "sidecar", "p99"), "slowloris-500", "repeated-1k")


def _quotient(figure: Callable[[str], float | None], one: str, other: str) -> float | None:
    above, below = figure(one), figure(other)
    return above / below if above is not None and below else None


def _dearest(micro: Mapping[str, float], prefix: str) -> float | None:
    return max(
        (figure for name, figure in micro.items() if name.startswith((f"{prefix}count", f"{prefix}time"))), default=None
    )


def _errors(results: Results, peer: str) -> float | None:
    errors = [sample.errors for sample in results.samples if sample.peer == peer]
    return sum(errors) if errors else None


def table(results: Results, micro: Mapping[str, float] = NOTHING, calls: Mapping[str, float] = NOTHING) -> str:
    """One line per case and peer, medians over the rounds; then the checks, and the microbenchmarks' figures. `calls`:
    Python calls of the sidecar per request, by case.
    """
    peers = list(dict.fromkeys(sample.peer for sample in results.samples))
    rows = [_row(results, case.name, peer, calls) for case in CASES for peer in peers if results.of(case.name, peer)]
    checks = [f"{check.name:<17} {check.peer:<8} {check.figure:>10.1f} {check.unit}" for check in results.checks]
    small = [f"{name:<36} {figure:>10.2f}" for name, figure in micro.items()]
    return "\n".join([ROW.format(*COLUMNS), *rows, *checks, *small])


def _row(results: Results, case: str, peer: str, calls: Mapping[str, float]) -> str:
    typical = {field.name: results.typical(case, peer, field.name) or 0 for field in fields(Sample)[2:]}
    ratios = (results.ratio(case, peer, case, other) for other in ("envoy", "nginx"))
    return ROW.format(
        case,
        peer,
        f"{typical['cpu']:.1f}",
        *("–" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        *(f"{typical[name]:.0f}" for name in ("rate", "p50", "p99", "rss", "pss")),
        f"{typical['core']:.0%}",
        sum(sample.errors for sample in results.of(case, peer)),
        f"{calls[case]:.0f}" if peer == "sidecar" and case in calls else "–",
    )


def write_json(path: Path, results: Results, goals: Iterable[Verdict], more: Mapping[str, object]) -> None:
    """Keep the run: every sample and check as it was, the verdicts, and what else is given."""
    record = {
        **more,
        "verdicts": [asdict(verdict) for verdict in goals],
        "checks": [asdict(check) for check in results.checks],
        "samples": [asdict(sample) for sample in results.samples],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Results:
    """An earlier run's samples and checks."""
    record = json.loads(path.read_text("utf-8"))
    return Results((Sample(**item) for item in record["samples"]), (Check(**item) for item in record["checks"]))
