"""Lines for people: short, coloured on a terminal, nothing in them that a terminal would obey."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sidecar.adapters.logs.json_line import STANDARD_ATTRIBUTES, Timestamp
from sidecar.core.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import LogSettings
    from sidecar.pipeline.record import ExchangeRecord

WIDTH = 159
"""Columns of a request's line."""
SHORTEST_TARGET = 60
LONG = 10.0
"""Seconds from which on nobody cares for milliseconds."""
TIME = slice(11, 23)
"""Of an RFC 3339 time: from the hours to the milliseconds."""
RESET, DIM, RED, GREEN, YELLOW, CYAN = (f"\x1b[{code}m" for code in (0, 2, 31, 32, 33, 36))
LEVELS = {logging.WARNING: YELLOW, logging.ERROR: RED, logging.CRITICAL: RED}
CLASSES = {2: GREEN, 3: CYAN, 4: YELLOW, 5: RED}
UNITS = ((1024 * 1024 * 1024, "GiB"), (1024 * 1024, "MiB"), (1024, "KiB"))


class Paint:
    """Colours texts, where it is `on`."""

    __slots__ = ("_on",)

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        """`text` in `colour`, which is empty for none."""
        return f"{colour}{text}{RESET}" if self._on and colour else text


class TextAccessLines:
    """Makes the lines of the access log: `12:00:00.250 200 GET /items/1 12.3ms 1.0KiB upstream catalog id-1`."""

    __slots__ = ("_paint", "_redaction")

    def __init__(self, settings: LogSettings, paint: Paint) -> None:
        self._redaction = Redaction(settings.redact_query)
        self._paint = paint

    def __call__(self, record: ExchangeRecord, time_of_day: str) -> str:
        """The line about `record`, ended, at most `WIDTH` columns wide."""
        begin = f"{record.status} {cut(record.method, 16)}"
        end = f" {_duration(record.duration)} {_octets(record.bytes_sent)} {record.source}"
        end += "".join(f" {cut(word, limit)}" for word, limit in self._words(record) if word)
        target = self._redaction(record.target.decode("utf-8", "backslashreplace"))
        clock = time_of_day[TIME]
        left = WIDTH - len(clock) - len(begin) - 2
        target = cut(target, max(SHORTEST_TARGET, left - len(end)))
        paint, colour = self._paint, CLASSES.get(record.status // 100, "")
        return f"{paint(clock, DIM)} {paint(begin, colour)} {target}{end[: left - len(target)]}\n"

    @staticmethod
    def _words(record: ExchangeRecord) -> Iterator[tuple[str, int]]:
        """What else is said, each with the columns that it may take."""
        yield record.route, 24
        yield record.request_id.decode("utf-8", "backslashreplace"), 36
        yield record.reason or record.error, 32
        yield record.detail, WIDTH


class TextFormatter(logging.Formatter):
    """A log record as a line: time, level, message, short extras; longer ones and exceptions in lines below it."""

    def __init__(self, paint: Paint) -> None:
        super().__init__()
        self._paint = paint
        self._stamp = Timestamp()

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        paint, message = self._paint, plain(record.getMessage())
        words, below = [message], []
        for key, value in vars(record).items():
            if key in STANDARD_ATTRIBUTES or isinstance(value, bool) or value is None:
                continue
            if isinstance(value, list):
                below += [item for item in value if isinstance(item, str)]
            elif isinstance(value, str | int | float) and str(value) not in message:
                words.append(paint(f"{key}={plain(str(value))}", DIM))
        if record.exc_info:
            below += self.formatException(record.exc_info).splitlines()
        if record.stack_info:
            below += self.formatStack(record.stack_info).splitlines()
        level = paint(f"{record.levelname:7}", LEVELS.get(record.levelno, DIM))
        line = f"{paint(self._stamp(record.created)[TIME], DIM)} {level} {' '.join(words)}"
        return "\n".join([line, *(f"    {plain(text)}" for text in below)])


def plain(text: str) -> str:
    """`text` with everything escaped that a terminal would not print."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns: without characters that may take more than one, and shortened."""
    if not (text.isascii() and text.isprintable()):
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= columns else f"{text[: columns - 3]}..."


def _duration(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds >= LONG else f"{seconds * 1000:.1f}ms"


def _octets(count: int) -> str:
    for size, unit in UNITS:
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count}B"
