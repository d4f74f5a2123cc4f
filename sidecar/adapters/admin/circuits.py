"""GET /v1/circuits[/{name}], PUT and DELETE …/override, POST …/reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer, json_long_answer
from sidecar.adapters.admin.bodies import Fields, json_object, refuse_other_types
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.problems import unknown
from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.report import circuit_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from sidecar.core.circuit.circuit import Circuit

DEFAULT_TTL = 3600.0
KEYS = ("mode", "ttl", "reason", "actor")
RESET_KEYS = ("reason", "actor")
MODES = tuple(mode.value for mode in OverrideMode)


async def list_circuits(request: web.Request) -> web.Response:
    """Every circuit."""
    context = request.app[CONTEXT]
    upstreams = {route.name: route.upstream.name for route in context.config().routes}
    circuits = list(context.circuits().values())
    moment = context.moment()
    reports = (
        circuit_report(circuit.snapshot(moment.monotonic), upstreams.get(circuit.name, ""), moment)
        for circuit in circuits
    )
    return await json_long_answer({}, {"circuits": reports})


async def show_circuit(request: web.Request) -> web.Response:
    """One circuit."""
    return _shown(request, _named(request))


async def override_circuit(request: web.Request) -> web.Response:
    """Force a circuit; before the answer is sent, the override holds for every request (breaker.md 24)."""
    order = read_order(await json_object(request))
    # Looked up after the body arrived, since a reload may have replaced the circuits meanwhile.
    circuit = _named(request)
    circuit.override(order.mode, order.reason, order.actor, order.ttl, _now(request))
    return _shown(request, circuit)


async def release_circuit(request: web.Request) -> web.Response:
    """Back to the automatic state."""
    refuse_other_types(request)
    circuit = _named(request)
    circuit.release_override(_now(request))
    return _shown(request, circuit)


async def reset_circuit(request: web.Request) -> web.Response:
    """Closed, with an empty window; a body may say who (`actor`) and why (`reason`)."""
    fields = Fields(await json_object(request) if request.body_exists else {}, RESET_KEYS)
    reason, actor = fields.text("reason"), fields.text("actor")
    fields.finish()
    circuit = _named(request)
    circuit.reset(_now(request), actor, reason)
    return _shown(request, circuit)


@dataclass(frozen=True, slots=True)
class OverrideOrder:
    """What an operator wants; `ttl` in seconds, None until it is removed."""

    mode: OverrideMode
    ttl: float | None
    reason: str
    actor: str


def read_order(content: Mapping[str, object]) -> OverrideOrder:
    """The order that a body gives. Raises Problem with every wrong value."""
    fields = Fields(content, KEYS)
    mode = fields.choice("mode", MODES)
    ttl = fields.ttl("ttl", DEFAULT_TTL)
    reason, actor = fields.text("reason"), fields.text("actor")
    fields.finish()
    return OverrideOrder(OverrideMode(mode), ttl, reason, actor)


def _now(request: web.Request) -> float:
    return request.app[CONTEXT].moment().monotonic


def _named(request: web.Request) -> Circuit:
    circuits = request.app[CONTEXT].circuits()
    name = request.match_info["name"]
    if name not in circuits:
        raise unknown("circuit", name, circuits)
    return circuits[name]


def _shown(request: web.Request, circuit: Circuit) -> web.Response:
    context = request.app[CONTEXT]
    moment = context.moment()
    upstream = next((route.upstream.name for route in context.config().routes if route.name == circuit.name), "")
    return json_answer(circuit_report(circuit.snapshot(moment.monotonic), upstream, moment))
