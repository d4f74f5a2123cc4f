"""Whether traffic should come, and what whoever looks at that wants to know besides (`/readyz?verbose`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.core.address import bound_text
from sidecar.core.circuit.explanation import State, span
from sidecar.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sidecar.core.report import Moment
    from sidecar.pipeline.data_plane import CircuitReading, DataPlanePort
    from sidecar.pipeline.stats import ProcessStats

MOST_NAMES = 10
PASSED, FAILED, TOLD = "[+]", "[-]", "[i]"


@dataclass(frozen=True, slots=True)
class Standing:
    """What of the control plane is looked at: the file in force, and where the listeners are bound."""

    source: str
    started: bool
    addresses: Mapping[str, Sequence[tuple[str, int] | str]]


class Readiness:
    """What decides about traffic: that the process listens, is configured, and does not shut down.

    Open circuits, a failed reload and a slow loop are told and decide nothing: another pod would have no better
    upstream, and this one goes on with the configuration before (contract.md §5).
    """

    def __init__(
        self,
        plane: DataPlanePort,
        stats: ProcessStats,
        standing: Callable[[], Standing],
        moment: Callable[[], Moment],
    ) -> None:
        self._plane = plane
        self._stats = stats
        self._standing = standing
        self._moment = moment
        self._began = moment()

    def unready(self) -> str | None:
        """Why no traffic should come, or nothing when it should."""
        if self._stats.draining:
            return "draining"
        return None if self._standing().started else "starting"

    async def report(self) -> list[str]:
        """A line for each thing: `[+]` and `[-]` for what decides, `[i]` for the rest."""
        return [*self._deciding(), *await self._told()]

    def _deciding(self) -> Iterator[str]:
        standing = self._standing()
        if standing.started:
            bound = [f"{name} {bound_text(one)}" for name, each in standing.addresses.items() for one in each]
            yield f"{PASSED} listening: {', '.join(bound)}"
        else:
            yield f"{FAILED} listening: not yet"
        # Not where it lies: the listener is open to the network.
        yield f"{PASSED} configured: {Path(standing.source).name}"
        yield f"{FAILED} shutting down: draining" if self._stats.draining else f"{PASSED} not shutting down"

    async def _told(self) -> list[str]:
        stats = await self._plane.stats()
        up = self._moment().monotonic - self._began.monotonic
        latest = "in force" if self._stats.last_reload_ok else "failed, the configuration before it is in force"
        return [
            f"{TOLD} circuits: {_circuits(await self._plane.circuits.readings())}",
            f"{TOLD} latest configuration: {latest}",
            f"{TOLD} event loop: at most {stats.loop_lag * 1000:.1f} ms late in the last 10 s",
            f"{TOLD} log: {counted(stats.log_lines_dropped, 'line')} dropped",
            f"{TOLD} version {__version__}, up for {span(round(up))}",
        ]


def _circuits(readings: Sequence[CircuitReading]) -> str:
    """How many there are, and which of them are not closed."""
    standing = [(it.snapshot.name, it.snapshot.effective_state.value) for it in readings]
    remarkable = [f"{name} {state}" for name, state in standing if state != State.CLOSED.value]
    if not remarkable:
        return f"all {len(readings)} closed"
    more = f", and {len(remarkable) - MOST_NAMES} more" if len(remarkable) > MOST_NAMES else ""
    return f"{len(remarkable)} of {len(readings)} not closed: {', '.join(remarkable[:MOST_NAMES])}{more}"
