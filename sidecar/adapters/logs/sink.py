"""Lines on their way to a file descriptor that nobody may be reading."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.logs.form import form_of
from sidecar.core.config import LogSettings

if TYPE_CHECKING:
    from collections.abc import Callable

PENDING_LIMIT = 4 * 1024 * 1024
DEFAULT_SETTINGS = LogSettings()

Write: TypeAlias = "Callable[[bytes, int], None]"
"""A sink's `write`: ended lines and how many they are."""


class LineSink:
    """Complete lines on their way to a file descriptor, at most `limit` bytes of them, in the `form` that suits it."""

    def __init__(
        self, descriptor: int = 1, *, limit: int = PENDING_LIMIT, settings: LogSettings = DEFAULT_SETTINGS
    ) -> None:
        self._descriptor = descriptor
        self.terminal = os.isatty(descriptor)
        """Whether a person may be looking."""
        self.form = form_of(settings, terminal=self.terminal)
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
                batch = self._drop_notice() + batch
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

    def _drop_notice(self) -> bytes:
        """The line that says how many lines were lost."""
        record = logging.LogRecord("sidecar.logs", logging.WARNING, "", 0, "log lines were dropped", (), None)
        record.__dict__["lines"] = self._unreported
        return self.form.formatter.format(record).encode() + b"\n"

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines
