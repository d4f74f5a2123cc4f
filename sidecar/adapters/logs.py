"""Logs on standard output: one JSON object per line, written by a thread of its own so that nobody ever waits for it.

The access log and the logging tree meet in one `LineSink`. Whatever reads standard output may stop reading or go
away: the sink then drops lines, counts them, and says how many when it can write again.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import threading
import time
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.report import sentence, transition_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.report import Moment
    from sidecar.pipeline.record import ExchangeRecord

PENDING_LIMIT = 4 * 1024 * 1024
FLUSH_INTERVAL = 0.2
BATCH_LINES = 256
"""About 64 KiB of access log."""

REFUSING = frozenset({State.OPEN, OverrideMode.FORCED_OPEN})
STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

Noted: TypeAlias = "tuple[float, ExchangeRecord]"
"""A line to be: seconds since 1970, and what it tells."""
Write: TypeAlias = "Callable[[bytes, int], None]"
"""A sink's `write`: ended lines and how many they are."""


class LineSink:
    """Complete lines on their way to a file descriptor, at most `limit` bytes of them."""

    def __init__(self, descriptor: int = 1, *, limit: int = PENDING_LIMIT) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lock = threading.Lock()
        self._unreported = 0
        self._batches: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        # A daemon, because a reader that has stopped reading must not hold up the exit of the process.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self.pending = 0
        """Bytes not yet written."""
        self.dropped = 0
        """Lines lost so far because they could not be written in time."""
        self._thread.start()

    def write(self, batch: bytes, lines: int) -> None:
        """Queue `batch`, which holds `lines` ended lines. From any thread; never waits; drops it when full."""
        with self._lock:
            if self.pending + len(batch) > self._limit:
                self._drop(lines)
                return
            if self._unreported:
                batch = _drop_notice(self._unreported) + batch
                self._unreported = 0
            self.pending += len(batch)
            self._batches.put((batch, lines))

    def close(self, timeout: float = 1.0) -> None:
        """Write what is queued, for at most `timeout` seconds."""
        self._batches.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._batches.get()) is not None:
            batch, lines = item
            written = self._write_out(batch)
            with self._lock:
                self.pending -= len(batch)
                if not written:
                    self._drop(lines)

    def _write_out(self, batch: bytes) -> bool:
        rest = memoryview(batch)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select((), (self._descriptor,), ())
            except OSError:
                return False
        return True

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines


class AccessLog:
    """One JSON line per finished request; called on the hot path, so it only takes note (pipeline/record.py).

    Lines are made at most 200 ms later, or once 256 wait. `call_later` is the event loop's; `wall` gives seconds
    since 1970 UTC.
    """

    __slots__ = ("_call_later", "_noted", "_wall", "_write")

    def __init__(
        self,
        write: Write,
        call_later: Callable[[float, Callable[[], None]], object],
        wall: Callable[[], float],
    ) -> None:
        self._write = write
        self._call_later = call_later
        self._wall = wall
        self._noted: list[Noted] = []

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of `record`, which must not change any more."""
        noted = self._noted
        noted.append((self._wall(), record))
        waiting = len(noted)
        if waiting == 1:
            self._call_later(FLUSH_INTERVAL, self.flush)
        elif waiting == BATCH_LINES:
            self._call_later(0, self.flush)

    def flush(self) -> None:
        """Hand over every noted line; also the last call before the sink is closed."""
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        lines, second, prefix = [], -1, ""
        for at, record in noted:
            if int(at) != second:
                second = int(at)
                prefix = to_the_second(second)
            lines.append(access_line(record, f"{prefix}.{int(at * 1000) - second * 1000:03d}Z"))
        self._write("".join(lines).encode("ascii"), len(lines))


def access_line(record: ExchangeRecord, time_of_day: str) -> str:
    """The line about `record`. Octets that are no UTF-8 appear as `\\xNN`."""
    route, method, target, status, source, duration, sent, request_id, client, *rest = record
    wrong = what_went_wrong(record) if any(rest) else ""
    return (
        f'{{"time":"{time_of_day}","level":"info","logger":"sidecar.access","message":"request",'
        f'"route":{quote(route)},"method":{quote(method)},"target":{quote(target.decode("utf-8", "backslashreplace"))},'
        f'"status":{status},"source":"{source}","duration_ms":{duration * 1000:.3f},"bytes_sent":{sent},'
        f'"request_id":{quote(request_id.decode("utf-8", "backslashreplace"))},"client":{quote(client)}{wrong}}}\n'
    )


def what_went_wrong(record: ExchangeRecord) -> str:
    """The members after the client."""
    said = f',"reason":{quote(record.reason)}' if record.reason else ""
    if record.reason or record.detail:
        said += f',"detail":{quote(record.detail)}'
    if record.error:
        said += f',"error":{quote(record.error)}'
    if record.stale_because:
        said += f',"stale_because":{quote(record.stale_because)}'
    return said + ',"aborted":true' if record.aborted else said


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


def _drop_notice(lines: int) -> bytes:
    record = logging.LogRecord("sidecar.logs", logging.WARNING, "", 0, "log lines were dropped", (), None)
    record.__dict__["lines"] = lines
    return JsonFormatter().format(record).encode("ascii") + b"\n"


class SinkHandler(logging.Handler):
    """Sends the logging tree to a sink."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own rule: a bad log call is reported and does not raise
            self.handleError(record)
        else:
            self._write(line.encode("ascii") + b"\n", 1)


def take_over_logging(write: Write, level: int = logging.INFO) -> None:
    """Make `write`, a sink's, the only way out of the logging tree and of Python's warnings."""
    logging.basicConfig(level=level, handlers=[SinkHandler(write)], force=True)
    logging.captureWarnings(capture=True)


class TransitionLog:
    """One JSON line per transition, in the words that the API uses; what makes requests fail is a warning.

    `moment` reads both clocks.
    """

    def __init__(self, moment: Callable[[], Moment]) -> None:
        self._moment = moment
        self._logger = logging.getLogger("sidecar.circuit")

    def __call__(self, transition: Transition) -> None:
        """Log `transition`."""
        level = logging.WARNING if transition.target in REFUSING else logging.INFO
        report = transition_report(transition, self._moment())
        self._logger.log(level, "%s", sentence(transition), extra={"circuit": transition.circuit, **report})
