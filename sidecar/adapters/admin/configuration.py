"""POST /v1/config/check and /v1/config/reload: what another configuration would change, and what it did."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.adapters.admin.answers import json_answer
from sidecar.adapters.admin.bodies import Fields, json_object, refuse_other_types
from sidecar.adapters.admin.context import CONTEXT
from sidecar.adapters.admin.entry import members, text
from sidecar.adapters.admin.problems import Problem
from sidecar.config.document_text import LARGEST
from sidecar.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from sidecar.config.change import Reviewed
    from sidecar.config.problem import Problem as Finding

CHECK_BODY = members({"config": text()}, "config")
LARGEST_BODY = 2 * LARGEST
"""The largest configuration there is, with what JSON adds to its line ends and quotes."""


async def check_config(request: web.Request) -> web.Response:
    """The difference that `config`, a text, would make, or without a body the file as it is now.

    A text that is sent sees no environment variables; their defaults apply.
    """
    request = request.clone(client_max_size=LARGEST_BODY)
    text = await _given_text(request) if request.body_exists else None
    return _told(await request.app[CONTEXT].reloading.check(text))


async def reload_config(request: web.Request) -> web.Response:
    """Use the file as it is now."""
    refuse_other_types(request)
    return _told(await request.app[CONTEXT].reloading.reload())


async def _given_text(request: web.Request) -> str:
    fields = Fields(await json_object(request), ["config"])
    text = fields.document("config")
    fields.finish()
    return text


def _told(reviewed: Reviewed) -> web.Response:
    loaded, change = reviewed.loaded, reviewed.change
    if change is None:
        detail = f"{loaded.source} has {counted(len(loaded.errors), 'error')}; nothing was changed"
        members = {"errors": _listed(loaded.errors)}
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_config", detail, members=members)
    return json_answer(
        {
            "changed": change.changed,
            "unchanged": change.unchanged,
            "needs_restart": change.needs_restart,
            "difference": change.difference,
            "warnings": _listed(loaded.problems),
        }
    )


def _listed(findings: Iterable[Finding]) -> list[dict[str, object]]:
    return [
        {"line": finding.line, "column": finding.column, "message": finding.message, "hint": finding.hint}
        for finding in findings
    ]
