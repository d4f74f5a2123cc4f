"""What the reports of the API mean, in words and numbers for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from sidecar.ctl.tables import Cell

Report: TypeAlias = "dict[str, Any]"

UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
BADNESS = {"open": 5, "forced_open": 4, "half_open": 3, "forced_closed": 2, "observe": 2}
SIZES = ("B", "KiB", "MiB", "GiB")


def seconds_of(time: str) -> float:
    """An RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


def span(seconds: float) -> str:
    """A duration in its two largest units: `2m13s`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, length in UNITS:
        number, left = divmod(left, length)
        if number or parts:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"


def clock(time: str) -> str:
    """The local time of day of an RFC 3339 time."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def percent(share: float) -> str:
    """A share 0–1."""
    return f"{share:.0%}"


def size(number: float) -> str:
    """Bytes in the unit that suits them."""
    at = 0
    while number >= 1024 and at < len(SIZES) - 1:
        number, at = number / 1024, at + 1
    return f"{number:.0f} {SIZES[at]}" if at == 0 or number >= 10 else f"{number:.1f} {SIZES[at]}"


def milliseconds(seconds: float | None) -> str:
    """A latency given in seconds."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def state(report: Report) -> Cell:
    """What holds for requests."""
    word = report["effective_state"]
    return Cell(word.replace("_", "-"), word)


def badness(report: Report) -> tuple[int, float, str]:
    """What sorts the worst circuit first."""
    return -BADNESS.get(report["effective_state"], 0), -report["window"]["failure_rate"], report["name"]


def duration(report: Report, now: float) -> str:
    """Since when: an outage began with the trip, whatever probes have met since."""
    override, trip = report["override"], report["trip"]
    began = override["set_at"] if override else trip["at"] if trip else report["since"]
    return span(now - seconds_of(began))


def window(report: Report) -> str:
    """What the window holds."""
    held = report["window"]
    failed = f"{held['failures']}/{held['requests']}"
    return f"{failed} ({percent(held['failure_rate'])})" if held["requests"] else "-"


def why(report: Report) -> str:
    """Why it is not closed, and when that ends."""
    override, trip = report["override"], report["trip"]
    if override:
        by = f" by {override['actor']}" if override["actor"] else ""
        until = f"until {clock(override['expires_at'])}" if override["expires_at"] else "until it is ended"
        return f"forced{by} {until}" + (f": {override['reason']}" if override["reason"] else "")
    if trip:
        probe = report["last_probe"]
        failed = probe is not None and probe["outcome"] == "failure" and probe["at"] > trip["at"]
        met = f"; the last probe met {probe['error'] or probe['status']}" if failed else ""
        return f"{trip['detail']}{met}"
    return ""


def next_probe(report: Report, now: float) -> str:
    """When it will be tried again."""
    if report["effective_state"] == "half_open":
        return "probing"
    if report["effective_state"] != "open" or report["next_probe_at"] is None:
        return "-"
    left = seconds_of(report["next_probe_at"]) - now
    return span(left) if left > 0 else "next request"
