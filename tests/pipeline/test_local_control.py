"""The control of circuits, probes and stored answers, by names and values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.explanation import OverrideMode, Sample
from sidecar.pipeline.data_plane import ProbeResult, UnknownCircuit
from sidecar.pipeline.local_control import LocalCache, LocalCircuits, LocalProbes
from tests.support.circuits import OPEN_FOR, Bench
from tests.support.fake_store import FakeStore
from tests.support.stored_entries import entry

SAMPLE = Sample(0.0, "health", "GET", "/healthz", 200, None, 0.01)


class Desk:
    """The control of two circuits, of which one is open."""

    def __init__(self) -> None:
        self.now = 1.0
        self.well, self.ill = Bench(), Bench()
        self.ill.trip(0.0)
        circuits = {"well": self.well.circuit, "ill": self.ill.circuit}
        self.circuits = LocalCircuits(lambda: circuits, lambda: self.now)
        self.probes = LocalProbes({"shop": tuple(circuits.values())}.__getitem__, lambda: self.now)


async def test_every_circuit_is_read_with_what_it_has_counted() -> None:
    well, ill = await Desk().circuits.readings()
    assert (well.snapshot.state.value, ill.snapshot.state.value) == ("closed", "open")
    assert (well.counters.calls["failure"], sum(ill.counters.transitions.values())) == (0, 1)


async def test_an_order_holds_when_it_was_awaited() -> None:
    desk = Desk()
    await desk.circuits.override("well", OverrideMode.FORCED_OPEN, "deploy", "ann", 10.0)
    override = (await desk.circuits.snapshot("well")).override
    assert override is not None
    assert (override.actor, override.reason, override.expires_at) == ("ann", "deploy", 11.0)
    await desk.circuits.release_override("well")
    assert (await desk.circuits.snapshot("well")).override is None
    await desk.circuits.reset("ill", "ann", "fixed")
    assert (await desk.circuits.snapshot("ill")).state.value == "closed"


async def test_a_name_that_no_circuit_has_is_refused_with_those_there_are() -> None:
    circuits = Desk().circuits
    for order in (
        circuits.snapshot("sick"),
        circuits.override("sick", OverrideMode.FORCED_OPEN, "", "", None),
        circuits.release_override("sick"),
        circuits.reset("sick", "", ""),
    ):
        with pytest.raises(UnknownCircuit) as told:
            await order
        assert (told.value.name, told.value.known) == ("sick", ("well", "ill"))


async def test_what_one_exports_another_restores() -> None:
    saved = await Desk().circuits.export()
    assert list(saved) == ["ill"]
    other = Desk()
    await other.circuits.reset("ill", "", "")

    assert set(await other.circuits.restore({**saved, "gone": saved["ill"]})) == {"gone"}

    assert (await other.circuits.snapshot("ill")).state.value == "open"


async def test_only_a_circuit_that_is_due_for_a_probe_hears_of_one() -> None:
    desk = Desk()
    assert not await desk.probes.due("shop")
    await desk.probes.settle("shop", ProbeResult(healthy=True, sample=SAMPLE))
    assert (await desk.circuits.snapshot("ill")).state.value == "open"

    desk.now = OPEN_FOR
    assert await desk.probes.due("shop")
    await desk.probes.settle("shop", ProbeResult(healthy=False, sample=replace(SAMPLE, status=503), retry_after=50.0))

    ill = await desk.circuits.snapshot("ill")
    assert ill.state.value == "open"
    assert ill.last_probe is not None
    assert ill.last_probe.sample is not None
    assert ill.last_probe.sample.status == 503
    assert not await desk.probes.due("shop")
    assert (await desk.circuits.snapshot("well")).last_probe is None


async def test_the_store_is_told_what_to_forget() -> None:
    store = FakeStore()
    stored = entry()
    assert store.put(stored, store.begin(stored.key))
    cache = LocalCache(store)
    assert [held.route for held in await cache.summarize()] == [stored.route]
    assert (await cache.purge(route=stored.route)).entries == 1
    assert await cache.summarize() == []
