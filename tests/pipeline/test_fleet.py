"""The fleet at work, with a store that the test holds: who waits, for how long, and what is told of a probe."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.fleet.fleet import Fleet
from sidecar.core.fleet.messages import Heard, LeaseAnswer, Member, News, Record, Version, Word
from sidecar.core.fleet_settings import FleetSettings, RedisKind, RedisSettings, RedisUrl, Scope
from sidecar.pipeline.data_plane import ProbeResult
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import CircuitOpen
from sidecar.pipeline.fleet.control import FleetCircuits
from sidecar.pipeline.fleet.coordinator import Coordinator
from sidecar.pipeline.fleet.lease_stage import LeaseStage
from sidecar.pipeline.local_control import LocalProbes
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import FleetStats
from sidecar.pipeline.tasks import Tasks
from tests.support.circuits import Bench, sample
from tests.support.fake_fleet_store import HALF_OPEN, FakeFleetStore
from tests.support.wire import eventually, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.circuit.gate import ProbeEnd
    from sidecar.pipeline.message import Request, Response

NAME = "catalog"
OPENED = Record(NAME, 7, State.OPEN, 0.0, 0, "b", "because")
CLOSED = Record(NAME, 10, State.CLOSED, by="b", detail="probes succeeded")
SETTINGS = RedisSettings(RedisUrl(RedisKind.SINGLE, (("127.0.0.1", 1),)), probe_lease_timeout=0.05, sync_interval=0.02)


class Clock:
    """The real one, shifted as the test wants."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> float:
        return self.monotonic()


class Origin:
    """The innermost handler: it asks the circuit, and ends the permit as the test says."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.permits: list[Permit] = []

    async def handle(self, request: Request) -> Response:
        answer = self._crew.circuit.ask(self._crew.now, safe=True)
        if not isinstance(answer, Permit):
            raise CircuitOpen(answer.detail, retry_after=answer.retry_after)
        self.permits.append(answer)
        return request  # type: ignore[return-value]  # the stage looks at no response


class Ask:
    """As much of a request as the stage looks at."""

    class head:  # noqa: N801 - stands for the attribute
        method = "GET"


class Crew(Bench):
    """One sidecar's circuit, with everything that keeps it in step."""

    def __init__(self) -> None:
        self.coordinator: Coordinator | None = None
        super().__init__(time.monotonic())
        self.clock = Clock()
        self.store = FakeFleetStore()
        self.tasks = Tasks()
        self.stats = FleetStats()
        self.stats.up = True
        runtime = Runtime(self.clock, DeadlineWheel(self.clock), self.tasks.spawn)

        def ended(name: str, end: ProbeEnd) -> None:
            coordinator.leases.ended(name, end)

        self.fleet = Fleet(FleetSettings(), Member("a", "1", 0.0), ended)
        coordinator = self.coordinator = Coordinator(self.fleet, self.store, runtime, SETTINGS, self.stats)
        self.leases = coordinator.leases
        coordinator.follow([self.circuit])
        self.origin = Origin(self)
        self.stage = LeaseStage(self.origin, self.circuit, self.leases, self.clock)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def _note(self, event: Transition) -> None:
        super()._note(event)
        if self.coordinator is not None:
            self.coordinator.note(event)

    def opened(self) -> Crew:
        """The fleet's circuit is open, and its period is over."""
        self.fleet.hear(Heard(record=OPENED), self.now)
        return self

    async def request(self) -> Permit | str:
        """The permit that a request got, or why it was refused."""
        try:
            await self.stage.handle(Ask())  # type: ignore[arg-type]  # as much as it looks at
        except CircuitOpen as error:
            return str(error)
        return self.origin.permits[-1]

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        self.circuit.settle(permit, outcome, self.now, describe=lambda: sample(0.0))

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(verdict.outcome, verdict.round) for verdict in self.store.verdicts]


@pytest.fixture
async def crew(no_task_leaks: None) -> AsyncIterator[Crew]:  # noqa: ARG001 - torn down after it
    crew = Crew()
    yield crew
    assert crew.coordinator is not None
    await crew.coordinator.leave()
    await crew.tasks.cancel_all()


# Leases


async def test_a_closed_circuit_asks_nobody(crew: Crew) -> None:
    assert isinstance(await crew.request(), Permit)
    assert crew.store.calls == []


async def test_an_open_circuit_asks_nobody_before_its_period_is_over(crew: Crew) -> None:
    crew.fleet.hear(Heard(record=Record(NAME, 7, State.OPEN, 10.0)), crew.now)
    assert "the circuit is open" in str(await crew.request())
    assert crew.store.calls == []


async def test_a_probe_waits_for_its_lease_and_its_verdict_is_told_for_the_round_of_the_lease(crew: Crew) -> None:
    permit = await crew.opened().request()
    assert isinstance(permit, Permit)
    (wish,) = crew.store.wishes
    assert (wish.circuit, wish.round, wish.limit) == (NAME, 7, 1)
    assert wish.ttl > crew.circuit.settings.probe_timeout
    crew.store.record = CLOSED
    crew.settle(permit, Outcome.SUCCESS)
    await eventually(lambda: crew.told)
    assert crew.told == [("success", HALF_OPEN.round)]
    assert crew.store.verdicts[0].id == wish.id
    assert not crew.circuit.gate.shared  # type: ignore[union-attr]  # it has one


async def test_others_are_refused_at_once_while_a_lease_is_asked_for(crew: Crew) -> None:
    crew.store.held = asyncio.Event()
    first = asyncio.create_task(crew.opened().request())
    await turns(3)
    refused = await asyncio.gather(*(crew.request() for _ in range(20)))
    assert all("probes are under way" in str(one) for one in refused)
    crew.store.held.set()
    assert isinstance(await first, Permit)
    assert len(crew.store.wishes) == 1


async def test_a_lease_that_is_not_to_be_had_is_not_asked_for_by_every_request(crew: Crew) -> None:
    crew.store.answer = LeaseAnswer(granted=False, record=HALF_OPEN, wait=5.0)
    for _ in range(20):
        assert "probes are under way" in str(await crew.opened().request())
    assert len(crew.store.wishes) == 1
    crew.clock.ahead = 1.0
    await crew.request()
    assert len(crew.store.wishes) == 2, "should nobody tell that it is free"


async def test_a_lease_that_another_pod_returned_is_asked_for_at_once(crew: Crew) -> None:
    crew.store.answer = LeaseAnswer(granted=False, record=HALF_OPEN, wait=5.0)
    await crew.opened().request()
    crew.store.answer = LeaseAnswer(granted=True, record=HALF_OPEN)
    crew.fleet.hear(Heard(freed=NAME), crew.now)
    assert isinstance(await crew.request(), Permit)


@pytest.mark.parametrize("broken", [False, True], ids=["silent", "failing"])
async def test_without_an_answer_the_circuit_decides_alone(crew: Crew, broken: bool) -> None:  # noqa: FBT001 - a case
    crew.store.broken = broken
    crew.store.held = None if broken else asyncio.Event()
    began = time.monotonic()
    assert isinstance(await crew.opened().request(), Permit)
    assert time.monotonic() - began < 1.0
    assert "probes are under way" in str(await crew.request()), "within its own half_open_probes"


async def test_nobody_waits_where_redis_is_known_to_be_away(crew: Crew) -> None:
    crew.stats.up = False
    permit = await crew.opened().request()
    assert isinstance(permit, Permit)
    assert crew.store.calls == []
    crew.store.broken = True
    crew.settle(permit, Outcome.FAILURE)
    await eventually(lambda: crew.leases.untold)
    crew.store.broken = False
    await crew.leases.tell_untold()
    assert crew.told == [("failure", OPENED.round)]
    assert crew.leases.untold == {}


async def test_nobody_waits_again_right_after_an_answer_that_came_too_late(crew: Crew) -> None:
    crew.store.held = asyncio.Event()
    permit = await crew.opened().request()
    assert isinstance(permit, Permit)
    crew.settle(permit, Outcome.CANCELLED)
    assert isinstance(await crew.request(), Permit)
    assert len(crew.store.wishes) == 1


async def test_a_lease_that_comes_late_is_that_of_the_probe_under_way(crew: Crew) -> None:
    crew.store.held = asyncio.Event()
    permit = await crew.opened().request()
    assert isinstance(permit, Permit)
    crew.store.held.set()
    await turns(5)
    assert crew.told == []
    crew.settle(permit, Outcome.SUCCESS)
    await eventually(lambda: crew.told)
    assert crew.told == [("success", HALF_OPEN.round)]


async def test_a_lease_that_comes_after_its_probe_has_ended_is_given_back(crew: Crew) -> None:
    crew.store.held = asyncio.Event()
    permit = await crew.opened().request()
    assert isinstance(permit, Permit)
    crew.settle(permit, Outcome.CANCELLED)
    crew.store.held.set()
    await eventually(lambda: len(crew.told) == 2)
    assert crew.told == [("release", OPENED.round), ("release", HALF_OPEN.round)]


@pytest.mark.parametrize("answered", [False, True], ids=["before the answer", "after it"])
async def test_a_client_that_leaves_while_it_waits_leaves_no_lease_behind(crew: Crew, *, answered: bool) -> None:
    crew.store.held = asyncio.Event()
    asking = asyncio.create_task(crew.opened().request())
    await turns(3)
    if answered:
        crew.store.held.set()
        await turns(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    crew.store.held.set()
    await eventually(lambda: crew.told)
    await turns(5)
    assert [outcome for outcome, _ in crew.told] == ["release"]
    assert crew.circuit.gate is not None
    assert crew.circuit.gate.asking == 0
    assert isinstance(await crew.request(), Permit)


@pytest.mark.parametrize(
    ("record", "admitted"), [(CLOSED, True), (Record(NAME, 10, State.OPEN, 9.0), False)], ids=["closed", "opened"]
)
async def test_what_the_fleet_did_meanwhile_decides(crew: Crew, *, record: Record, admitted: bool) -> None:
    crew.store.held = asyncio.Event()
    asking = asyncio.create_task(crew.opened().request())
    await turns(3)
    crew.fleet.hear(Heard(record=record), crew.now)
    crew.store.held.set()
    assert isinstance(await asking, Permit) is admitted
    await eventually(lambda: crew.told)
    assert [outcome for outcome, _ in crew.told] == ["release"]


async def test_an_override_that_came_meanwhile_is_obeyed_and_the_lease_given_back(crew: Crew) -> None:
    crew.store.held = asyncio.Event()
    asking = asyncio.create_task(crew.opened().request())
    await turns(3)
    crew.circuit.override(OverrideMode.FORCED_OPEN, "", "ann", 60.0, crew.now)
    crew.store.held.set()
    assert "forced_open" in str(await asking)
    await eventually(lambda: crew.told)


# Health probes


async def test_a_health_probe_takes_a_lease_and_settles_with_it(crew: Crew) -> None:
    probes = LocalProbes(lambda _: [crew.circuit], crew.opened().clock.monotonic, crew.leases)
    assert await probes.due("shop")
    await probes.settle("shop", ProbeResult(healthy=True, sample=sample(0.0)))
    await eventually(lambda: crew.told)
    assert crew.told == [("success", HALF_OPEN.round)]


async def test_a_health_probe_without_a_lease_is_not_sent_and_nothing_is_settled(crew: Crew) -> None:
    crew.store.answer = LeaseAnswer(granted=False, record=HALF_OPEN, wait=5.0)
    probes = LocalProbes(lambda _: [crew.circuit], crew.opened().clock.monotonic, crew.leases)
    assert not await probes.due("shop")
    await probes.settle("shop", ProbeResult(healthy=True, sample=sample(0.0)))
    assert crew.state == "open"
    assert crew.circuit.counters.rejected == 0


async def test_a_lease_for_a_health_probe_that_was_never_settled_is_given_back(crew: Crew) -> None:
    probes = LocalProbes(lambda _: [crew.circuit], crew.opened().clock.monotonic, crew.leases)
    assert await probes.due("shop")
    assert await probes.due("shop")
    await eventually(lambda: crew.told)
    assert [outcome for outcome, _ in crew.told] == ["release"]


# Keeping in step


async def test_a_quiet_look_is_one_look_at_the_version(crew: Crew) -> None:
    assert crew.coordinator is not None
    await crew.coordinator.look()
    await crew.coordinator.look()
    assert crew.store.calls == ["push", "version"]
    crew.store.news = News(Version(1, 2), 1000.0, 4, records=(OPENED,))
    await crew.coordinator.look()
    assert crew.store.calls[2:] == ["version", "push"]
    assert (crew.state, crew.stats.members) == ("open", 4)


async def test_a_trip_is_told_at_once(crew: Crew) -> None:
    assert crew.coordinator is not None
    await crew.coordinator.join()
    pushes = len(crew.store.pushes)
    crew.trip(crew.now)
    await eventually(lambda: len(crew.store.pushes) > pushes)
    assert crew.store.pushes[-1].named[0].vote is not None


async def test_what_stands_is_said_again_after_a_failure(crew: Crew) -> None:
    assert crew.coordinator is not None
    crew.trip(crew.now)
    await crew.coordinator.look()
    crew.store.broken = True
    await crew.coordinator.look()
    crew.store.broken = False
    await crew.coordinator.look()
    await crew.coordinator.look()
    assert crew.store.pushes[-1].named[0].vote is not None
    assert crew.store.pushes[-1].heartbeat


async def test_an_operators_reset_of_an_open_circuit_is_told(crew: Crew) -> None:
    assert crew.coordinator is not None
    await crew.coordinator.join()
    crew.store.record = CLOSED
    crew.opened().circuit.reset(crew.now, "ann")
    await eventually(lambda: "close" in crew.store.calls)


async def test_a_start_does_not_wait_long_for_a_redis_that_does_not_answer(crew: Crew) -> None:
    assert crew.coordinator is not None
    crew.store.held = asyncio.Event()
    began = time.monotonic()
    await crew.coordinator.join()
    assert time.monotonic() - began < 2.0


async def test_whoever_leaves_says_so_and_lets_go(crew: Crew) -> None:
    assert crew.coordinator is not None
    await crew.coordinator.join()
    await crew.coordinator.leave()
    assert crew.store.calls[-1] == "leave"
    assert crew.store.closed


async def test_the_view_is_redis_or_what_is_known_here(crew: Crew) -> None:
    assert crew.coordinator is not None
    assert (await crew.coordinator.view(NAME)).fresh
    crew.store.broken = True
    crew.trip(crew.now)
    view = await crew.coordinator.view(NAME)
    assert (view.fresh, view.circuits[NAME].voters) == (False, ("a",))
    assert not (await crew.coordinator.view(None)).fresh


# Operators


def control(crew: Crew) -> FleetCircuits:
    assert crew.coordinator is not None
    return FleetCircuits(lambda: {NAME: crew.circuit}, crew.clock.monotonic, crew.coordinator)


async def test_a_word_for_all_holds_here_first_and_is_told(crew: Crew) -> None:
    await control(crew).override(NAME, OverrideMode.FORCED_OPEN, "drill", "ann", 60.0)
    assert crew.store.words == [Word(NAME, 0, OverrideMode.FORCED_OPEN, "drill", "ann", 60.0)]
    override = crew.circuit.override_in_force(crew.now)
    assert override is not None
    assert override.fleet
    await control(crew).release_override(NAME)
    assert crew.store.words[-1].mode is None


async def test_a_word_that_cannot_be_told_holds_here_and_is_told_later(crew: Crew) -> None:
    assert crew.coordinator is not None
    await crew.coordinator.look()
    crew.store.broken = True
    await control(crew).override(NAME, OverrideMode.FORCED_OPEN, "drill", "ann", 60.0)
    assert crew.circuit.override_in_force(crew.now) is not None
    crew.store.broken = False
    await crew.coordinator.look()
    (word,) = crew.store.words
    assert word.stamp > 0
    await crew.coordinator.look()
    assert len(crew.store.words) == 1


async def test_a_word_for_this_pod_is_told_to_nobody(crew: Crew) -> None:
    await control(crew).override(NAME, OverrideMode.OBSERVE, "", "ann", 60.0, Scope.POD)
    await control(crew).release_override(NAME)
    assert crew.store.words == []
    assert crew.circuit.override_in_force(crew.now) is None
