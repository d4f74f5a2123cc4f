"""A rehearsal as a picture: an SVG with how long clients waited, above, and what came to the upstream, below."""

from __future__ import annotations

from html import escape
from math import log10
from typing import TYPE_CHECKING

from sidecar.demo.rehearsal import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sidecar.demo.rehearsal import Run

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT = 80, 20
PANELS = ((50, 240), (310, 500))
"""Top and bottom of each."""
COLOURS = ("#c0392b", "#1f6fb2")
PHASE_COLOURS = {"healthy": "#eef7ee", "faltering": "#fdf3dc", "slow": "#fbe3e0", "recovery": "#eef7ee"}
FASTEST, SLOWEST = 1, 10_000
"""Milliseconds at the lower and the upper end of the first panel, whose scale is logarithmic."""

MOST = 2
"""Times the usual rate, at the upper end of the second."""


def drawing(runs: Sequence[Run]) -> str:
    """The document; each run has a line in both panels."""
    scenario = runs[0].scenario
    rates = [run.upstream_rates() for run in runs]

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds / scenario.duration, 0), 1)

    def latency(seconds: float) -> float:
        decades = log10(min(max(seconds * 1000, FASTEST), SLOWEST) / FASTEST)
        return _between(PANELS[0], decades / log10(SLOWEST / FASTEST))

    def load(rate: float) -> float:
        return _between(PANELS[1], min(rate / (MOST * scenario.rate), 1))

    parts = [
        _text(LEFT, 28, "p99 of what clients waited (ms)"),
        _text(LEFT, 288, "requests per second at the upstream"),
    ]
    for name, begin, end in scenario.phases:
        parts += [_rectangle(x(begin), x(end), top, bottom, PHASE_COLOURS[name]) for top, bottom in PANELS]
        parts += [_text(x(begin) + 4, bottom + 16, name) for _, bottom in PANELS]
    parts += [_tick(latency(ms / 1000), f"{ms}") for ms in (1, 10, 100, 1000, 10_000)]
    parts += [_tick(load(value), f"{value:.0f}") for value in (0, scenario.rate / 2, scenario.rate)]
    for number, (run, colour) in enumerate(zip(runs, COLOURS, strict=True)):
        waits = (
            (at, quantile([one.took for one in some], 0.99)) for at, some in run.pieces(0, scenario.duration) if some
        )
        parts += [_line(waits, x, latency, colour), _line(rates[number], x, load, colour)]
        parts.append(_text(WIDTH - 330 + 160 * number, 28, run.name, colour))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    style = 'font-family="sans-serif" font-size="13"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _between(panel: tuple[int, int], share: float) -> float:
    top, bottom = panel
    return bottom - (bottom - top) * share


def _line(
    points: Iterable[tuple[float, float]], x: Callable[[float], float], y: Callable[[float], float], colour: str
) -> str:
    path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _rectangle(left: float, right: float, top: float, bottom: float, colour: str) -> str:
    width, height = right - left, bottom - top
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _tick(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>'
    return f'{line}<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _text(x: float, y: float, text: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(text)}</text>'
