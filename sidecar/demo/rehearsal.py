"""What a rehearsal is, what was measured in it, and whether the policies kept what they promise. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from sidecar.adapters.demo_load import FALLBACK, NOTHING, UPSTREAM, Answered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEALTHY, FALTERING, SLOW, RECOVERY = "healthy", "faltering", "slow", "recovery"
STEP = 0.5
"""The rehearsal is looked at in pieces of this length."""
ROW = "{:<10} {:<17} {:>8} {:>8} {:>14} {:>13} {:>9} {:>7}"
FULL = 0.95
"""Share of requests that the upstream answers in a piece of full traffic."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Traffic, which is alike in every run, and what the upstream does meanwhile: four phases, one after another."""

    rate: float = 300
    healthy: float = 4
    faltering: float = 4
    slow: float = 8
    recovery: float = 6
    service_time: float = 0.02
    first_byte: float = 0.25
    open_duration: float = 3
    ramp: float = 1
    budget: float = 0.2
    patience: float = 3
    """How long a client waits."""

    @property
    def phases(self) -> list[tuple[str, float, float]]:
        """Name, begin and end of each."""
        begin, phases = 0.0, []
        for name in (HEALTHY, FALTERING, SLOW, RECOVERY):
            end = begin + getattr(self, name)
            phases.append((name, begin, end))
            begin = end
        return phases

    @property
    def duration(self) -> float:
        """Of all phases together."""
        return self.phases[-1][2]

    def bounds(self, name: str) -> tuple[float, float]:
        """Begin and end of one phase."""
        return next((begin, end) for phase, begin, end in self.phases if phase == name)


class Load(NamedTuple):
    """How many requests had come to the upstream by then, and how many of them were repeated ones."""

    at: float
    first: int
    repeated: int


class Goal(NamedTuple):
    """What was measured, and what it must not exceed."""

    name: str
    figure: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it does not."""
        return self.figure <= self.limit


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario: every answer, and the upstream's load as it was looked at."""

    name: str
    scenario: Scenario
    answers: Sequence[Answered]
    loads: Sequence[Load]

    def during(self, phase: str) -> list[Answered]:
        """The answers to the requests of one phase."""
        begin, end = self.scenario.bounds(phase)
        return [answer for answer in self.answers if begin <= answer.due < end]

    def quantile(self, phase: str, share: float) -> float:
        """Of how long the clients of a phase waited."""
        return quantile([answer.took for answer in self.during(phase)], share)

    def answered(self, phase: str) -> dict[str, float]:
        """By whom the requests of a phase were answered, as shares of all."""
        answers = self.during(phase)
        return {by: sum(answer.by == by for answer in answers) / len(answers) for by in (UPSTREAM, FALLBACK, NOTHING)}

    def upstream_share(self, phase: str) -> float:
        """What came to the upstream in a phase, as a share of what clients asked for."""
        begin, end = self.scenario.bounds(phase)
        return (self._load_at(end) - self._load_at(begin)) / len(self.during(phase))

    def _load_at(self, moment: float) -> int:
        # What had come just before its phase changed.
        _, first, repeated = max((load for load in self.loads if load.at <= moment), key=lambda load: load.at)
        return first + repeated

    @property
    def amplification(self) -> float:
        """Requests at the upstream for each that was sent for the first time."""
        _, first, repeated = self.loads[-1]
        return (first + repeated) / first

    @property
    def recovered_after(self) -> float:
        """From when on the upstream, which was well again at 0, answered all traffic; the phase's length if never."""
        begin, end = self.scenario.bounds(RECOVERY)
        recovered = begin
        for at, answers in self.pieces(begin, end):
            if sum(answer.by == UPSTREAM for answer in answers) < FULL * len(answers):
                recovered = at + STEP
        last = [answer.due for answer in self.during(RECOVERY) if answer.by != UPSTREAM and answer.due < recovered]
        return max(last) - begin if last else 0.0

    def pieces(self, begin: float, end: float) -> Iterator[tuple[float, list[Answered]]]:
        """The answers in pieces of `STEP`, each with its begin."""
        for number in range(int((end - begin) / STEP)):
            at = begin + number * STEP
            yield at, [answer for answer in self.answers if at <= answer.due < at + STEP]

    def upstream_rates(self) -> list[tuple[float, float]]:
        """Requests per second that came to the upstream, each with when it was looked at."""
        return [
            (now.at, (now.first + now.repeated - then.first - then.repeated) / (now.at - then.at))
            for then, now in pairwise(self.loads)
            if 0 < then.at < now.at <= self.scenario.duration
        ]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by `share` of them."""
    return sorted(values)[max(0, int(len(values) * share + 0.999) - 1)]


def goals(run: Run) -> list[Goal]:
    """What the policies have to keep, and what they kept in this run."""
    scenario = run.scenario
    return [
        Goal("p99 while the upstream is slow", run.quantile(SLOW, 0.99), 2 * run.quantile(HEALTHY, 0.99), "s"),
        Goal("upstream load while it is slow", run.upstream_share(SLOW), 0.02, "of normal"),
        Goal("until all traffic is back", run.recovered_after, scenario.open_duration + scenario.ramp, "s"),
        Goal("requests per first attempt", run.amplification, 1 + scenario.budget, "times"),
    ]


def report(without: Run, guarded: Run) -> str:
    """The figures of both runs, phase by phase, and the goals."""
    lines = [ROW.format("", "", "p50", "p99", "upstream load", "by: upstream", "fallback", "nobody")]
    for phase, *_ in without.scenario.phases:
        for run in (without, guarded):
            waits = (f"{run.quantile(phase, share) * 1000:.0f} ms" for share in (0.5, 0.99))
            shares = (f"{share:.1%}" for share in (run.upstream_share(phase), *run.answered(phase).values()))
            lines.append(ROW.format(phase, run.name, *waits, *shares))
    lines.append("")
    for goal in goals(guarded):
        kept = "kept" if goal.met else "MISSED"
        lines.append(f"{goal.name:<32} {goal.figure:>8.3f} {goal.unit:<10} at most {goal.limit:.3f}: {kept}")
    return "\n".join(lines) + "\n"
