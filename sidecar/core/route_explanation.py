"""Why a request takes its route, and why it takes none of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core.routing import Candidate, RouteMatch, holds, host_names, path_shown, segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.http.heads import RequestHead
    from sidecar.core.routing import RouteTable


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """One route seen by one request. `failed` lists the conditions that do not hold; none: it matches, but an earlier
    or more specific route may win."""

    route: str
    path: str
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoutingReport:
    """The route taken, if any, and every candidate in the order of the file."""

    match: RouteMatch | None
    candidates: tuple[CandidateReport, ...]


def explain(table: RouteTable, head: RequestHead) -> RoutingReport:
    """How `table` decides about `head`."""
    path = head.target.partition(b"?")[0]
    reports = (
        CandidateReport(
            each.match.route.name,
            path_shown(each.match.route.match).decode("utf-8", "replace"),
            tuple(_failed(each, head, path)),
        )
        for each in table.candidates
    )
    return RoutingReport(table.match(head), tuple(reports))


def _failed(candidate: Candidate, head: RequestHead, path: bytes) -> Iterator[str]:
    if not path_fits(candidate, path):
        match = candidate.match.route.match
        kind = "path" if match.path is not None else "regex" if match.regex else "prefix"
        yield f"{kind} {path_shown(match).decode('utf-8', 'replace')} does not fit {path.decode('utf-8', 'replace')}"
    if candidate.host and candidate.host not in host_names(head.authority):
        yield f"host is {head.authority.decode('latin-1') or 'missing'}, not {candidate.host.decode()}"
    if candidate.methods is not None and head.method not in candidate.methods:
        yield f"method is {head.method}, not {' or '.join(sorted(candidate.methods))}"
    for name, value in candidate.headers:
        if not holds(head.headers, name, value):
            wanted = "any value" if value is None else repr(value.decode())
            found = head.headers.get(name)
            shown = "missing" if found is None else repr(found.decode("latin-1"))
            yield f"header {name.decode()} is {shown}, not {wanted}"


def path_fits(candidate: Candidate, path: bytes) -> bool:
    """Whether the path condition alone holds."""
    match = candidate.match.route.match
    if match.path is not None:
        return path == match.path.encode()
    if match.regex is not None:
        return match.regex.match(path) is not None
    prefix = segments(match.prefix or "/")
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in {b"", b"/"}
