"""The Prometheus text format 0.0.4 and OpenMetrics 1.0, which names the families of counters otherwise, has exemplars,
and has an end.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.pipeline.stats import Histogram


NO_EXEMPLARS: Mapping[int, str] = MappingProxyType({})


class Format(Enum):
    """A format, by its Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Kind(Enum):
    """A family's type, by its word in both formats."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


def negotiate(accept: str) -> Format:
    """OpenMetrics when an Accept field names it, and not only to refuse it."""
    for member in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in member.split(";"))
        if media_type == "application/openmetrics-text":
            refused = any(re.fullmatch(r"q=0(\.0{0,3})?", parameter) for parameter in parameters)
            return Format.TEXT if refused else Format.OPEN_METRICS
    return Format.TEXT


def head(name: str, kind: Kind, meaning: str, form: Format) -> str:
    """The two lines before a family's samples. `name` is the samples', with `_total` for a counter."""
    family = name.removesuffix("_total") if form is Format.OPEN_METRICS else name
    return f"# HELP {family} {meaning}\n# TYPE {family} {kind.value}\n"


def ending(form: Format) -> str:
    """What a page ends with."""
    return "# EOF\n" if form is Format.OPEN_METRICS else ""


def escape(value: str) -> str:
    """`value` as it stands between the quotes of a label."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def by_key(name: str, labels: str, key: str, counts: Mapping[str, int]) -> str:
    """One line per key of `counts`; `labels` is empty or ends in a comma."""
    return "".join([f'{name}{{{labels}{key}="{escape(word)}"}} {count}\n' for word, count in counts.items()])


def one_hot(name: str, labels: str, key: str, words: tuple[str, ...], hot: str | None) -> str:
    """One line per word, 1 for the `hot` one and 0 for the others; `labels` ends in a comma."""
    return "".join([f'{name}{{{labels}{key}="{word}"}} {int(word == hot)}\n' for word in words])


def buckets(name: str, labels: str, histogram: Histogram, exemplars: Mapping[int, str] = NO_EXEMPLARS) -> str:
    """A histogram's cumulative buckets, sum and count; `exemplars` are written behind the buckets of those numbers."""
    totals = list(accumulate(histogram.counts))
    bounds = zip(_bounds(histogram.bounds), totals, strict=True)
    lines = [f'{name}_bucket{{{labels},le="{bound}"}} {total}\n' for bound, total in bounds]
    for bucket, exemplar in exemplars.items():
        lines[bucket] = f"{lines[bucket][:-1]}{exemplar}\n"
    return f"{''.join(lines)}{name}_sum{{{labels}}} {histogram.sum}\n{name}_count{{{labels}}} {totals[-1]}\n"


def exemplar(trace: bytes, value: float, wall: float) -> str:
    """What is written behind a bucket's sample: the trace of one observation in it, `value`, at `wall`."""
    return f' # {{trace_id="{trace.decode()}"}} {value} {wall:.3f}'


@lru_cache(maxsize=16)
def _bounds(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(str, bounds), "+Inf")
