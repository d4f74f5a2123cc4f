"""`explain`: what becomes of one request, and which line of the file decides each part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.config.settings_view import route_settings
from sidecar.core.http.forwarding import max_forwards, rewrite_target
from sidecar.core.http.heads import Headers, RequestHead
from sidecar.core.http.methods import MethodFlaw, flaw_of
from sidecar.core.route_explanation import RoutingReport, explain
from sidecar.core.routing import RouteTable, routed_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.core.config import Config
    from sidecar.core.http.heads import Field
    from sidecar.core.routing import RouteMatch

URL = re.compile(r"(?:http://(?P<authority>[^/?#\s]+))?(?P<target>[/?][!-~]*)?", re.ASCII | re.IGNORECASE)


class BadUrl(ValueError):
    """Not a URL that a client of the proxy could ask for."""


class BadMethod(ValueError):
    """Not a method: a request with it is malformed."""


@dataclass(frozen=True, slots=True)
class RequestExplanation:
    """A request, how it was routed, and what is sent to the upstream (None when nothing is). `here`: the answer that
    the sidecar makes itself, whatever the route, and why; None when it makes none. `taken_away`: which implicit route
    it would have taken, if another route had not named the upstream, in words.
    """

    head: RequestHead
    routing: RoutingReport
    sent: str | None
    nearest: tuple[str, ...]
    here: str | None = None
    taken_away: str = ""


def request_head(method: str, url: str, fields: Iterable[Field], own: Iterable[str]) -> RequestHead:
    """The head that a client sends for `url`: a path, or a whole URL. `own` are the proxy's addresses; another host
    means a forward-proxy request. A Host among `fields` wins. Raises BadMethod and BadUrl."""
    if flaw_of(method) is MethodFlaw.MALFORMED:
        raise BadMethod(f"{method!r} is not a method: the answer is 400")
    found = URL.fullmatch(url)
    if found is None or not url:
        raise BadUrl(f"{url!r} is neither a path such as /catalog/1 nor an http:// URL without fragment")
    headers = Headers(list(fields))
    target = (found["target"] or "/").encode()
    host = headers.get(b"host")
    named = (found["authority"] or "").encode()
    absolute = bool(named) and host is None and routed_name(named) not in {name.lower().encode() for name in own}
    return RequestHead(
        method,
        target if target.startswith(b"/") else b"/" + target,
        headers,
        authority=host or named,
        absolute_form=absolute,
    )


def explain_request(config: Config, head: RequestHead) -> RequestExplanation:
    """What the sidecar would do with `head`."""
    table = RouteTable(config.routes)
    routing = explain(table, head)
    match = routing.match
    nearest = () if match else tuple(table.nearest(head.target))
    here = _answered_here(head, routed=match is not None)
    sent = _sent(head, match) if match and here is None else None
    return RequestExplanation(head, routing, sent, nearest, here, table.taken_away(head, match))


def _answered_here(head: RequestHead, *, routed: bool) -> str | None:
    flaw = flaw_of(head.method)
    if flaw is not None:
        return f"{flaw.status}: {flaw.value}"
    return "200: Max-Forwards is 0" if routed and max_forwards(head) == 0 else None


def _sent(head: RequestHead, match: RouteMatch) -> str:
    endpoints = match.route.upstream.endpoints
    target = rewrite_target(head.target, match.rewrite).decode("latin-1")
    more = f" (or {len(endpoints) - 1} more endpoints)" if len(endpoints) > 1 else ""
    separator = " " if endpoints[0].unix_path else ""
    return f"{head.method} {endpoints[0]}{separator}{target}{more}"


def as_lines(explanation: RequestExplanation) -> Iterator[str]:
    """The explanation for a terminal."""
    head, match = explanation.head, explanation.routing.match
    host = f" (host {head.authority.decode('latin-1')})" if head.authority else ""
    yield f"{head.method} {head.target.decode('latin-1')}{host}"
    if explanation.here is not None:
        yield f"the answer is {explanation.here}"
    elif match is None:
        yield "no route matches: the answer is 404"
        if explanation.nearest:
            yield f"nearest routes: {', '.join(explanation.nearest)}"
    else:
        route = match.route
        yield from _table(
            [
                ("route", route.name, route.refs.get("")),
                ("upstream", route.upstream.name, route.upstream.refs.get("")),
                ("sends", explanation.sent, route.refs.get("rewrite") or route.refs.get("")),
                *((view.name, view.value, view.ref) for view in route_settings(route)),
            ]
        )
    if explanation.taken_away:
        yield explanation.taken_away
    yield from _others(explanation)


def _table(rows: list[tuple[str, object, str | None]]) -> Iterator[str]:
    shown = [(name, written(value), ref or "default") for name, value, ref in rows]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for name, value, ref in shown:
        yield f"  {name:<{widths[0]}}  {value:<{min(widths[1], 60)}}  {ref}"


def written(value: object) -> str:
    """A value as in the file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {written(item)}' for name, item in value.items())}}}"
    return f"[{', '.join(map(written, value))}]" if isinstance(value, list) else str(value)


def _others(explanation: RequestExplanation) -> Iterator[str]:
    taken = explanation.routing.match.route.name if explanation.routing.match else None
    others = [each for each in explanation.routing.candidates if each.route != taken]
    if others:
        yield "not taken:"
    for each in others:
        yield f"  {each.route}: {'; '.join(each.failed) or 'matches, but a more specific or earlier route wins'}"
