"""GET /v1/faults, PUT and DELETE /v1/faults/{route}.

The body of a PUT is the `fault` block of a configuration, and is read as such: the same keys, units and messages.
Beside it may stand `actor`, `reason` and `force`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer, json_long_answer
from sidecar.adapters.admin.bodies import LONGEST_TTL, Fields, json_object, refuse_other_types
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.documents import read_block
from sidecar.adapters.admin.problems import BodyError, Problem, unknown
from sidecar.config.keys import block_of
from sidecar.config.stand_ins import check_fault
from sidecar.config.units import show_duration
from sidecar.core.config import Fault
from sidecar.core.report import fault_report
from sidecar.pipeline.data_plane import CircuitNotClosed, UnknownRoute

if TYPE_CHECKING:
    from aiohttp import web

BLOCK = block_of(Fault, "fault")
ORDER_KEYS = ("actor", "reason", "force")


async def list_faults(request: web.Request) -> web.Response:
    """Every fault in force."""
    context = request.app[CONTEXT]
    faults = await context.plane.faults.listed()
    moment = context.moment()
    return await json_long_answer({}, {"faults": (fault_report(name, it, moment) for name, it in faults.items())})


async def inject_fault(request: web.Request) -> web.Response:
    """Inject a fault; before the answer is sent, every request meets it."""
    context, route = request.app[CONTEXT], request.match_info["route"]
    content = await json_object(request)
    order = Fields({key: content.pop(key) for key in ORDER_KEYS if key in content}, ORDER_KEYS)
    actor, reason, force = order.text("actor"), order.text("reason"), order.flag("force")
    fault, errors = read_block(BLOCK, content, check_fault)
    if fault is not None and fault.ttl > LONGEST_TTL:
        errors = [*errors, BodyError("#/ttl", f"must be at most {show_duration(LONGEST_TTL)}")]
    order.finish(errors)
    assert fault is not None
    try:
        active = await context.plane.faults.inject(route, fault, actor, reason, force=force)
    except UnknownRoute as error:
        raise unknown("route", route, error.known) from None
    except CircuitNotClosed as error:
        detail = (
            f"circuit {error.name} is {error.state.value}: there is a real outage; say force: true to inject anyway"
        )
        raise Problem(HTTPStatus.CONFLICT, "circuit_not_closed", detail) from None
    return json_answer(fault_report(route, active, context.moment()))


async def end_fault(request: web.Request) -> web.Response:
    """End the route's fault, also one that stands in the configuration; nothing happens when there is none."""
    context, route = request.app[CONTEXT], request.match_info["route"]
    refuse_other_types(request)
    fields = Fields(await json_object(request) if request.body_exists else {}, ("actor", "reason"))
    actor, reason = fields.text("actor"), fields.text("reason")
    fields.finish()
    try:
        ended = await context.plane.faults.end(route, actor, reason)
    except UnknownRoute as error:
        raise unknown("route", route, error.known) from None
    return json_answer({"route": route, "ended": ended})
