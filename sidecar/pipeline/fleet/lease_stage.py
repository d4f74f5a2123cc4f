"""Gets a probe of a shared circuit its lease. Every other request passes with one look at the circuit's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import State
from sidecar.core.http.heads import SAFE_METHODS

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Clock, Handler, ProbeLeases
    from sidecar.pipeline.stage import RouteParts

_CLOSED = State.CLOSED


class LeaseStage:
    """Stands right around the circuit's stage: who is refused before it holds no lease."""

    __slots__ = ("_circuit", "_inner", "_leases", "_monotonic")

    def __init__(self, inner: Handler, circuit: Circuit, leases: ProbeLeases, clock: Clock) -> None:
        self._inner = inner
        self._circuit = circuit
        self._leases = leases
        self._monotonic = clock.monotonic

    async def handle(self, request: Request) -> Response:
        """What the inner stage answers."""
        if self._circuit.state is _CLOSED:
            return await self._inner.handle(request)
        return await self._handle_unless_closed(request)

    async def _handle_unless_closed(self, request: Request) -> Response:
        circuit, safe = self._circuit, request.head.method in SAFE_METHODS
        if not circuit.wants_lease(self._monotonic(), safe=safe):
            return await self._inner.handle(request)
        lease = await self._leases.acquire(circuit)
        if lease is None:
            return await self._inner.handle(request)
        if circuit.gate is None or not circuit.would_probe(self._monotonic(), safe=safe):
            # While the answer was awaited the fleet closed it, or opened it for longer, or an operator spoke.
            self._leases.give_back(circuit, lease)
            return await self._inner.handle(request)
        circuit.gate.lend(lease)
        try:
            return await self._inner.handle(request)
        finally:
            self._leases.return_unused(circuit, lease)


def around(inner: Handler, parts: RouteParts) -> Handler:
    """Only where there is a fleet."""
    leases = parts.shared.leases
    return inner if leases is None else LeaseStage(inner, parts.circuit, leases, parts.shared.clock)
