"""GET /v1/circuits[/{name}], PUT and DELETE …/override, POST …/reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.admin.answers import json_answer, json_long_answer
from sidecar.adapters.admin.bodies import LONGEST_TEXT, TTL_PATTERN, Fields, json_object, refuse_other_types
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import members, text
from sidecar.adapters.admin.problems import BodyError, bad_values, unknown
from sidecar.adapters.admin.queries import single
from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.fallback import upstream_of
from sidecar.core.fleet_settings import Scope
from sidecar.core.report import circuit_report
from sidecar.pipeline.data_plane import UnknownCircuit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import web

    from sidecar.adapters.admin.entry import Schema
    from sidecar.pipeline.data_plane import CircuitControl

Order: TypeAlias = "Callable[[CircuitControl, str], Awaitable[None]]"
"""What is to be done with a circuit, given by its name."""

DEFAULT_TTL = 3600.0
MODES = tuple(mode.value for mode in OverrideMode)
RESET_KEYS = {"reason": text(LONGEST_TEXT), "actor": text(LONGEST_TEXT)}
SCOPES = tuple(scope.value for scope in Scope)
SCOPE: dict[str, Schema] = {"scope": {"enum": list(SCOPES)}}
KEYS: dict[str, Schema] = {
    "mode": {"enum": list(MODES)},
    "ttl": {**text(), "pattern": TTL_PATTERN},
    **RESET_KEYS,
    **SCOPE,
}
OVERRIDE_BODY = members(KEYS, "mode")
RESET_BODY = members(RESET_KEYS)
SHOWN = ("name", "route", "upstream", "state", "effective_state", "override", "since", "window", "trip", "last_trip")
"""Some of what each answer about a circuit has."""


async def list_circuits(request: web.Request) -> web.Response:
    """Every circuit."""
    context = request.app[CONTEXT]
    upstreams = {route.name: route.upstream.name for route in context.config().routes}
    readings = await context.plane.circuits.readings()
    fleet = None if context.plane.fleet is None else await context.plane.fleet.view(None)
    moment = context.moment()
    reports = (
        circuit_report(reading.snapshot, _upstream(reading.snapshot.name, upstreams), moment, fleet)
        for reading in readings
    )
    return await json_long_answer({}, {"circuits": reports})


async def show_circuit(request: web.Request) -> web.Response:
    """One circuit."""
    return await _shown_after(request, None)


async def override_circuit(request: web.Request) -> web.Response:
    """Force a circuit; before the answer is sent, the override holds for every request (breaker.md 24)."""
    order = read_order(await json_object(request))
    return await _shown_after(
        request,
        lambda circuits, name: circuits.override(name, order.mode, order.reason, order.actor, order.ttl, order.scope),
    )


async def release_circuit(request: web.Request) -> web.Response:
    """Back to the automatic state; `?scope=` says whose, where that is not where the override is in force."""
    refuse_other_types(request)
    word = single(request, "scope")
    if word is not None and word not in SCOPES:
        raise bad_values([BodyError("?scope", f"wanted is one of {', '.join(SCOPES)}")])
    scope = None if word is None else Scope(word)
    return await _shown_after(request, lambda circuits, name: circuits.release_override(name, scope))


async def reset_circuit(request: web.Request) -> web.Response:
    """Closed, with an empty window; a body may say who (`actor`) and why (`reason`)."""
    fields = Fields(await json_object(request) if request.body_exists else {}, RESET_KEYS)
    reason, actor = fields.text("reason"), fields.text("actor")
    fields.finish()
    return await _shown_after(request, lambda circuits, name: circuits.reset(name, actor, reason))


@dataclass(frozen=True, slots=True)
class OverrideOrder:
    """What an operator wants; `ttl` in seconds, None until it is removed; `scope` None: as configured."""

    mode: OverrideMode
    ttl: float | None
    reason: str
    actor: str
    scope: Scope | None


def read_order(content: Mapping[str, object]) -> OverrideOrder:
    """The order that a body gives. Raises Problem with every wrong value."""
    fields = Fields(content, KEYS)
    mode = fields.choice("mode", MODES)
    ttl = fields.ttl("ttl", DEFAULT_TTL)
    reason, actor = fields.text("reason"), fields.text("actor")
    scope = Scope(fields.choice("scope", SCOPES)) if "scope" in content else None
    fields.finish()
    return OverrideOrder(OverrideMode(mode), ttl, reason, actor, scope)


async def _shown_after(request: web.Request, order: Order | None) -> web.Response:
    """The circuit that the path names, after `order` was carried out on it. Raises Problem when there is none."""
    context = request.app[CONTEXT]
    circuits, name = context.plane.circuits, request.match_info["name"]
    try:
        if order is not None:
            await order(circuits, name)
        snapshot = await circuits.snapshot(name)
    except UnknownCircuit as error:
        raise unknown("circuit", name, error.known) from None
    upstreams = {route.name: route.upstream.name for route in context.config().routes}
    fleet = None if context.plane.fleet is None else await context.plane.fleet.view(name)
    return json_answer(circuit_report(snapshot, _upstream(name, upstreams), context.moment(), fleet))


def _upstream(circuit: str, by_route: Mapping[str, str]) -> str:
    return upstream_of(circuit) or by_route.get(circuit, "")
