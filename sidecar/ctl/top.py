"""`sidecar ctl top`: what is broken, what clients get and how fast, at a glance."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from sidecar.ctl.tables import on_terminal, painted, table
from sidecar.ctl.words import badness, duration, milliseconds, next_probe, percent, seconds_of, state, why, window

if TYPE_CHECKING:
    from sidecar.ctl.client import Admin

HEAD = 5
"""Lines above the circuits."""
TITLES = ("CIRCUIT", "STATE", "FOR", "REQUESTS", "FAILED", "NEXT PROBE", "CLIENTS GET", "WHY")


def frame(admin: Admin) -> list[str]:
    """The lines of one picture."""
    traffic = admin.call("GET", "/v1/traffic")
    circuits = sorted(admin.call("GET", "/v1/circuits")["circuits"], key=badness)
    now, lately = seconds_of(traffic["at"]), traffic["lately"]
    seconds = max(1.0, lately["seconds"])
    by_name = {each["name"]: each["lately"] for each in traffic["circuits"]}
    broken = sum(each["effective_state"] in {"open", "forced_open", "half_open"} for each in circuits)
    lines = [
        painted(f"{broken} of {len(circuits)} circuits not closed", "open" if broken else "closed"),
        *_summary(lately, seconds),
        "",
    ]
    shown = circuits[: max(1, shutil.get_terminal_size().lines - HEAD - len(lines))] if on_terminal() else circuits
    lines += table(TITLES, [_row(each, by_name.get(each["name"], {}), now, seconds) for each in shown])
    if len(shown) < len(circuits):
        lines.append(f"… and {len(circuits) - len(shown)} more")
    return lines


def _summary(lately: dict[str, Any], seconds: float) -> list[str]:
    latency, cache, sources = lately["latency"], lately["cache"], lately["sources"]
    ratio = percent(cache["hits"] / cache["requests"]) if cache["requests"] else "-"
    rates = ", ".join(f"{name} {number / seconds:.1f}/s" for name, number in sources.items()) or "none"
    percentiles = ", ".join(f"{name} {milliseconds(value)}" for name, value in latency.items())
    return [f"requests  {rates}", f"latency   {percentiles}", f"cache     hit ratio {ratio}"]


def _row(report: dict[str, Any], sources: dict[str, int], now: float, seconds: float) -> tuple[object, ...]:
    requests = sum(sources.values())
    gets = ", ".join(
        f"{name} {percent(number / requests)}" for name, number in sorted(sources.items(), key=lambda each: -each[1])
    )
    rate = f"{requests / seconds:.1f}/s"
    next_try = next_probe(report, now)
    return (
        report["name"],
        state(report),
        duration(report, now),
        rate,
        window(report),
        next_try,
        gets or "-",
        why(report),
    )
