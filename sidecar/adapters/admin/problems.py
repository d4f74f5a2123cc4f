"""What the admin API answers when it does not do what was asked: problem+json (RFC 9457), always."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import hdrs, web

from sidecar.adapters.admin.answers import json_body
from sidecar.config.suggest import did_you_mean
from sidecar.core.http.heads import reason_phrase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from aiohttp.typedefs import Middleware

Call: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"

NOTHING_MORE: Mapping[str, object] = MappingProxyType({})

logger = logging.getLogger("sidecar.admin")


@dataclass(frozen=True, slots=True)
class BodyError:
    """What is wrong with one value; `pointer` is a JSON Pointer as a URI fragment (RFC 6901 §6)."""

    pointer: str
    detail: str


class Problem(Exception):
    """A call that is refused. `reason` is its stable word, `detail` says it to a person; `members` are told with it
    (RFC 9457 §3.2).
    """

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str,
        *,
        members: Mapping[str, object] = NOTHING_MORE,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.members = members
        self.headers = headers or {}


def unknown(what: str, name: str, known: Iterable[str]) -> Problem:
    """404 for a name that nothing has, with the one that was probably meant."""
    hint = did_you_mean(name, known)
    return Problem(
        HTTPStatus.NOT_FOUND, f"unknown_{what}", f"there is no {what} {name!r}" + (f"; {hint}" if hint else "")
    )


def bad_values(errors: Iterable[BodyError]) -> Problem:
    """422 for a body, or a query, whose values are wrong."""
    listed = tuple(errors)
    detail = "; ".join(f"{error.pointer}: {error.detail}" for error in listed)
    members = {"errors": [{"pointer": error.pointer, "detail": error.detail} for error in listed]}
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_values", detail, members=members)


def problem_response(problem: Problem) -> web.Response:
    """The answer that tells it."""
    content: dict[str, object] = {
        "type": f"urn:circuit-sidecar:problem:{problem.reason}",
        "title": reason_phrase(problem.status),
        "status": problem.status.value,
        "detail": problem.detail,
        "reason": problem.reason,
        **problem.members,
    }
    return web.Response(
        status=problem.status,
        reason=reason_phrase(problem.status),
        body=json_body(content),
        headers={hdrs.CONTENT_TYPE: "application/problem+json", **problem.headers},
    )


def problems_as_json(calls: Mapping[str, object]) -> Middleware:
    """The one place where an exception becomes an answer. `calls` is told to whoever asks for what is none."""

    @web.middleware
    async def told(request: web.Request, handler: Call) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            return problem_response(problem)
        except web.HTTPException as error:
            return problem_response(_from_library(request, error, calls))
        except Exception:
            logger.exception("an admin call failed", extra={"method": request.method, "path": request.path})
            failed = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the log has the details")
            return problem_response(failed)

    return told


def _from_library(request: web.Request, error: web.HTTPException, calls: Mapping[str, object]) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = error.headers[hdrs.ALLOW]
        detail = f"{request.method} is not a call on {request.path}; use {allow}"
        return Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, headers={hdrs.ALLOW: allow})
    if isinstance(error, web.HTTPNotFound):
        detail = f"there is no call {request.path}; `calls` has all that there are, as has GET /"
        return Problem(HTTPStatus.NOT_FOUND, "unknown_call", detail, members=calls)
    phrase = reason_phrase(error.status)
    return Problem(HTTPStatus(error.status), phrase.lower().replace(" ", "_"), phrase)
