"""What each command asks of the API, and how it shows the answer. Each gives the lines to print."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from sidecar.core.wording import counted
from sidecar.ctl.client import Failed
from sidecar.ctl.tables import Cell, painted, pairs, plain, table
from sidecar.ctl.words import (
    badness,
    clock,
    duration,
    next_probe,
    percent,
    size,
    span,
    state,
    why,
    window,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from sidecar.ctl.client import Admin

    Command: TypeAlias = Callable[[Admin, Namespace], Iterator[str]]

LATEST = 50
"""Events that are listed unless something else is asked for."""
MODES = {"open": "forced_open", "close": "forced_closed", "observe": "observe"}


def circuits(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """All circuits, the worst first."""
    told = admin.call("GET", "/v1/circuits")
    if arguments.output == "json":
        return _json(told)
    now = time.time()
    titles = ("NAME", "STATE", "FOR", "FAILED", "NEXT PROBE", "WHY")
    reports = sorted(told["circuits"], key=badness)
    rows = [
        (it["name"], state(it), duration(it, now), window(it), next_probe(it, now), why(it) or "-") for it in reports
    ]
    return iter(table(titles, rows))


def circuit(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """One circuit whole."""
    return _shown(admin.call("GET", _circuit_path(arguments.name)), arguments)


def force(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """Force it, for a while."""
    body = _words(arguments, "ttl", "reason", "actor")
    mode = MODES[arguments.command_name]
    return _shown(admin.call("PUT", _circuit_path(arguments.name, "/override"), body={"mode": mode, **body}), arguments)


def automatic(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """End what was forced."""
    return _shown(admin.call("DELETE", _circuit_path(arguments.name, "/override")), arguments)


def reset(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """Close it, with an empty window."""
    body = _words(arguments, "reason", "actor")
    return _shown(admin.call("POST", _circuit_path(arguments.name, "/reset"), body=body), arguments)


def _words(arguments: Namespace, *names: str) -> dict[str, object]:
    """What was typed of these."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def events(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """What happened, and then what happens."""
    # Asked before the list, so that what happens in between is in the stream at least; what is in both is told once.
    newest = admin.call("GET", "/v1/events", {"limit": 1})["events"] if arguments.follow else []
    limit = LATEST if arguments.limit is None and arguments.since is None else arguments.limit
    told = admin.call("GET", "/v1/events", {"since": arguments.since, "limit": limit, "circuit": arguments.circuit})
    as_json = arguments.output == "json"
    if as_json and not arguments.follow:
        yield from _json(told)
        return
    show = _json_line if as_json else _event_line
    yield from map(show, told["events"])
    if arguments.follow:
        last = max((event["id"] for event in told["events"]), default=0)
        begin = max((event["id"] for event in newest), default=0)
        for _, event in admin.stream("/v1/events/stream", {"since": begin}):
            if event["id"] > last and arguments.circuit in {None, event["circuit"]}:
                yield show(event)


def cache(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """What the cache holds and what it answered."""
    told = admin.call("GET", "/v1/cache")
    if arguments.output == "json":
        yield from _json(told)
        return
    yield f"{counted(told['entries'], 'stored answer')}, {size(told['bytes'])} of {size(told['max_size'])}"
    rows = [_cache_row(route) for route in told["routes"]]
    if rows:
        yield from table(("ROUTE", "ENTRIES", "SIZE", "HIT RATIO", "RESULTS"), rows)


def _cache_row(route: dict[str, Any]) -> tuple[object, ...]:
    results = route["results"]
    hits = results.get("hit", 0) + results.get("hit-stale", 0)
    ratio = percent(hits / sum(results.values())) if results else "-"
    told = ", ".join(f"{name} {number}" for name, number in results.items())
    return route["route"], route["entries"], size(route["bytes"]), ratio, told or "-"


def purge(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """Forget stored answers."""
    query = {name: getattr(arguments, name) for name in ("url", "route", "prefix", "tag")}
    told = admin.call("DELETE", "/v1/cache", query)
    if arguments.output == "json":
        return _json(told)
    return iter([f"{counted(told['purged'], 'stored answer')} purged", *(f"  {plain(url)}" for url in told["urls"])])


def fault(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """List what is injected, inject, or end it."""
    path = f"/v1/faults/{quote(arguments.route, safe='')}" if arguments.route else "/v1/faults"
    if arguments.route is None:
        told = admin.call("GET", path)
    elif arguments.off:
        told = admin.call("DELETE", path, body=_words(arguments, "reason", "actor"))
    else:
        told = admin.call("PUT", path, body=_fault_body(arguments))
    if arguments.output == "json":
        return _json(told)
    if arguments.route is not None:
        return iter([f"{arguments.route}: {'no fault any more' if arguments.off else 'requests meet a fault now'}"])
    rows = [
        (it["route"], span(it["seconds_left"]), _fault_words(it), it["actor"] or "-", it["reason"] or "-")
        for it in told["faults"]
    ]
    return iter(table(("ROUTE", "LEFT", "FAULT", "BY", "WHY"), rows) if rows else ["no faults are injected"])


def _fault_body(arguments: Namespace) -> dict[str, object]:
    kinds = {
        "abort": ("status", arguments.abort),
        "delay": ("duration", arguments.delay),
        "slow_body": ("rate", arguments.slow_body),
    }
    blocks = {
        kind: {name: value, "share": arguments.share} for kind, (name, value) in kinds.items() if value is not None
    }
    if arguments.reset:
        blocks["reset"] = {"share": arguments.share}
    if not blocks:
        meant = "--abort STATUS, --delay DURATION, --reset or --slow-body RATE, or --off to end it"
        raise Failed(f"say what the fault is: {meant}", misused=True)
    return {**blocks, **_words(arguments, "ttl", "reason", "actor"), **({"force": True} if arguments.force else {})}


def _fault_words(told: dict[str, Any]) -> str:
    """What it does, in the units of the configuration."""
    values = {"abort": "{status}", "delay": "{duration:g}s", "reset": "", "slow_body": "{rate} B/s"}
    parts = [
        " ".join(filter(None, [kind, form.format(**told[kind]), percent(told[kind]["share"])]))
        for kind, form in values.items()
        if told.get(kind)
    ]
    return ", ".join(parts)


def reload(admin: Admin, arguments: Namespace) -> Iterator[str]:
    """Use the configuration file as it is now, or see what that would change."""
    told = admin.call("POST", "/v1/config/check" if arguments.check else "/v1/config/reload")
    if arguments.output == "json":
        yield from _json(told)
        return
    for what in ("changed", "unchanged", "needs_restart"):
        yield f"{what.replace('_', ' ')}: {', '.join(map(plain, told[what])) or 'nothing'}"
    yield from (f"line {it['line']}: warning: {plain(it['message'])}" for it in told["warnings"])


def _circuit_path(name: str, rest: str = "") -> str:
    return f"/v1/circuits/{quote(name, safe='')}{rest}"


def _shown(report: dict[str, Any], arguments: Namespace) -> Iterator[str]:
    if arguments.output == "json":
        return _json(report)
    return _told(report)


def _told(report: dict[str, Any]) -> Iterator[str]:
    now = time.time()
    probe, trip = report["last_probe"], report["trip"] or report["last_trip"]
    yield from pairs(
        [
            ("name", report["name"]),
            ("upstream", report["upstream"]),
            ("state", state(report)),
            ("for", duration(report, now)),
            ("why", why(report)),
            ("automatic state", None if report["override"] is None else Cell(report["state"], report["state"])),
            ("next probe", next_probe(report, now) if report["next_probe_at"] else None),
            ("failed in window", window(report)),
            (
                "last probe",
                probe and f"{probe['outcome']} {probe['error'] or probe['status'] or ''} {clock(probe['at'])}",
            ),
            ("configured at", report["config_ref"]),
        ]
    )
    if trip:
        yield ""
        yield painted("why it opened" if report["trip"] else "the last trip, from which it recovered", "bold")
        yield f"{clock(trip['at'])}  {plain(trip['detail'])}" + (
            f"  ({trip['config_ref']})" if trip["config_ref"] else ""
        )
        yield from _samples(trip["samples"])


def _samples(samples: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            clock(it["at"]),
            it["method"],
            it["path"],
            it["error"] or it["status"] or "in flight",
            f"{it['duration_ms']:.0f} ms",
            it["request_id"],
        )
        for it in samples
    ]
    return table(("TIME", "METHOD", "PATH", "MET", "TOOK", "REQUEST ID"), rows) if rows else []


def _event_line(event: dict[str, Any]) -> str:
    kind = event["details"].get("to", "")
    return f"{painted(clock(event['at']), 'dim')}  {painted(plain(event['message']), kind)}"


def _json(told: object) -> Iterator[str]:
    yield json.dumps(told, indent=2, ensure_ascii=False)


def _json_line(told: object) -> str:
    return json.dumps(told, ensure_ascii=False)
