"""A record of Python's logging as one line of JSON."""

from __future__ import annotations

import json
import logging
import time

STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def to_the_second(second: int) -> str:
    """`second`, since 1970, as `2025-01-31T12:00:00`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class Timestamp:
    """RFC 3339 UTC times with milliseconds; nothing is made twice for the same second or millisecond."""

    __slots__ = ("_millisecond", "_prefix", "_second", "_text")

    def __init__(self) -> None:
        self._second = self._millisecond = -1
        self._prefix = self._text = ""

    def __call__(self, at: float) -> str:
        """`at`, seconds since 1970, as `2025-01-31T12:00:00.250Z`."""
        millisecond = int(at * 1000)
        if millisecond != self._millisecond:
            self._advance(millisecond)
        return self._text

    def _advance(self, millisecond: int) -> None:
        second, part = divmod(millisecond, 1000)
        if second != self._second:
            self._prefix = to_the_second(second)
            self._second = second
        self._text = f"{self._prefix}.{part:03d}Z"
        self._millisecond = millisecond


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object: time, level, logger, message, what was given as `extra`, and any exception."""

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Timestamp()

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry: dict[str, object] = {
            "time": self._stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update((key, value) for key, value in vars(record).items() if key not in STANDARD_ATTRIBUTES)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return _to_json(entry)


def _to_json(entry: dict[str, object]) -> str:
    try:
        return json.dumps(entry, default=str, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):  # an extra that JSON has no words for: NaN, a cycle, a key that is no string
        return json.dumps({key: str(value) for key, value in entry.items()}, separators=(",", ":"))
