"""The control of circuits that a fleet shares: an operator's word may be for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.fleet.messages import Word
from sidecar.core.fleet.words import obey
from sidecar.core.fleet_settings import Scope
from sidecar.pipeline.local_control import LocalCircuits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import OverrideMode
    from sidecar.pipeline.fleet.coordinator import Coordinator


class FleetCircuits(LocalCircuits):
    """A `CircuitControl`. What is said holds here before anybody else is told."""

    def __init__(
        self, circuits: Callable[[], Mapping[str, Circuit]], monotonic: Callable[[], float], coordinator: Coordinator
    ) -> None:
        super().__init__(circuits, monotonic)
        self._now = monotonic
        self._coordinator = coordinator

    async def override(
        self, name: str, mode: OverrideMode, reason: str, actor: str, ttl: float | None, scope: Scope | None = None
    ) -> None:
        """Force it, here or everywhere."""
        if self._scope(scope) is Scope.POD:
            await super().override(name, mode, reason, actor, ttl)
            return
        self.named(name).override(mode, reason, actor, ttl, self._now(), fleet=True)
        await self._coordinator.say(Word(name, 0, mode, reason, actor, ttl))

    async def release_override(self, name: str, scope: Scope | None = None) -> None:
        """Back to the automatic state. Where the override is this sidecar's alone, the fleet's holds again if any."""
        circuit, now = self.named(name), self._now()
        override = circuit.override_in_force(now)
        if scope is None and override is not None:
            scope = Scope.FLEET if override.fleet else Scope.POD
        circuit.release_override(now)
        if self._scope(scope) is Scope.FLEET:
            await self._coordinator.say(Word(name, 0, None))
        elif (standing := self._coordinator.fleet.words.standing(name, now)) is not None:
            obey(standing, circuit, now)

    def _scope(self, scope: Scope | None) -> Scope:
        return scope or self._coordinator.fleet.settings.overrides
