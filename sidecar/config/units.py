"""Scalars with a meaning, read from source text: durations, sizes, shares, numbers. Both ways, so that values can
be shown as they would be written.

Only ASCII digits count; signs, underscores, exponents, `.inf` and other bases are refused.
"""

from __future__ import annotations

import re

DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+", re.ASCII)
DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)", re.ASCII)
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))? ?(B|[KMGT]iB|[kKMGT]B)?", re.ASCII)
BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?/ ?(s|m|h)", re.ASCII)
DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", re.ASCII)
WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
STATUS_RANGE = re.compile(r"([1-5][0-9]{2})(?: *- *([1-5][0-9]{2}))?", re.ASCII)


class BadValue(ValueError):
    """A scalar that is not what its key takes. `hint` says what to write instead, or is empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def quoted(text: str) -> str:
    """`text` as shown in a message: quoted, control characters escaped, cut when long."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…")


LONGEST_SHOWN = 60


def duration(text: str) -> float:
    """Seconds from `250ms`, `2s`, `1.5m`, `1h30m`, `1d`. A number without a unit is refused: it could be either."""
    if DURATION.fullmatch(text) is None:
        hint = f"{text}s or {text}ms" if DECIMAL.fullmatch(text) else "250ms, 2s, 1m, 1h30m"
        raise BadValue(f"{quoted(text)} is not a duration", f"write a number with its unit: {hint}")
    return sum(float(number) * SECONDS[unit] for number, unit in DURATION_PART.findall(text))


def show_duration(seconds: float) -> str:
    """The shortest single-unit spelling that is exact, `30s` rather than `0.5m`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:.10g}ms" if 0 < seconds < 1 else f"{seconds:.10g}s"


def size(text: str) -> int:
    """Bytes from `64KiB`, `1.5MiB`, `10MB` (10⁶), or a plain number of bytes."""
    found = SIZE.fullmatch(text)
    if found is None:
        raise BadValue(f"{quoted(text)} is not a size", "write 64KiB, 1MiB or a number of bytes")
    whole, fraction, unit = found.groups(default="")
    factor = BYTES[unit or "B"]
    return int(whole) * factor + int(float(f"0.{fraction or 0}") * factor)


def show_size(count: int) -> str:
    """The largest binary unit that divides `count`, else plain bytes."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % BYTES[unit] == 0:
            return f"{count // BYTES[unit]}{unit}"
    return f"{count}B" if count else "0"


def rate(text: str) -> tuple[float, float]:
    """So many per so many seconds, from `100/s`, `5/m`, `1/h`."""
    found = RATE.fullmatch(text)
    if found is None:
        hint = f"{text}/s" if DECIMAL.fullmatch(text) else "100/s, 5/m or 1/h"
        raise BadValue(f"{quoted(text)} is not a rate", f"write a number with its unit of time: {hint}")
    if float(found[1]) == 0:
        raise BadValue("a rate of zero lets nothing pass", "write a number above 0, or null for no limit")
    return float(found[1]), SECONDS[found[2]]


def show_rate(count: float, seconds: float) -> str:
    """With the unit that it was written with."""
    unit = next(name for name, length in SECONDS.items() if length == seconds)
    return f"{show_decimal(count)}/{unit}"


def percentage(text: str) -> float:
    """A share 0–1 from `50%` or `0.5`."""
    percent = text.endswith("%")
    number = text[:-1].rstrip(" ") if percent else text
    if DECIMAL.fullmatch(number) is None:
        raise BadValue(f"{quoted(text)} is not a share", "write 50% or 0.5")
    value = float(number) / 100 if percent else float(number)
    if value > 1:
        raise BadValue(f"{quoted(text)} is more than all", "write 100% at most" if percent else f"write {text}% or 0.5")
    return value


def show_percentage(value: float) -> str:
    """With a percent sign."""
    return f"{value * 100:.10g}%"


def decimal(text: str) -> float:
    """A number without sign or exponent."""
    if DECIMAL.fullmatch(text) is None:
        raise BadValue(f"{quoted(text)} is not a number", "write digits, such as 2 or 1.5")
    return float(text)


def show_decimal(value: float) -> str:
    """Without a trailing `.0`."""
    return f"{value:.10g}"


def whole(text: str) -> int:
    """A whole number in base ten; `010` is ten."""
    if WHOLE.fullmatch(text) is None:
        raise BadValue(f"{quoted(text)} is not a whole number", "write digits only, such as 100")
    return int(text)


def boolean(text: str) -> bool:
    """`true` or `false`; YAML 1.1's other words are refused because they surprise elsewhere."""
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    wanted = {"on": "true", "yes": "true", "y": "true", "off": "false", "no": "false", "n": "false"}.get(text.lower())
    raise BadValue(f"{quoted(text)} is neither true nor false", f"write {wanted}" if wanted else "")


def statuses(text: str) -> frozenset[int]:
    """One status code, or a range `500-599` with both ends in it."""
    found = STATUS_RANGE.fullmatch(text)
    if found is None:
        raise BadValue(f"{quoted(text)} is not a status code 100–599 or a range of them", "write 503 or 500-599")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise BadValue(f"{quoted(text)} is an empty range", f"write {last}-{first}")
    return frozenset(range(first, last + 1))


def show_statuses(codes: frozenset[int]) -> list[str]:
    """Codes in order, runs of three or more as ranges."""
    shown: list[str] = []
    run: list[int] = []
    for code in [*sorted(codes), 0]:
        if run and code != run[-1] + 1:
            shown += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run)
            run = []
        run.append(code)
    return shown
