"""Takes note of traced requests, and hands them over in batches to a thread that makes spans and sends them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sidecar.core.http.trace_context import RECORDED, RECORDED_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from sidecar.adapters.tracing.spans import Noted, SpanMaker
    from sidecar.adapters.tracing.surface import Surface
    from sidecar.core.config import TracingSettings
    from sidecar.pipeline.ports import Clock
    from sidecar.pipeline.record import ExchangeRecord

log = logging.getLogger(__name__)

CallLater: TypeAlias = "Callable[[float, Callable[[], None]], object]"
FLUSH_INTERVAL = 1.0
BATCH = 64
"""Requests that are sent at once: making one message of their spans is work that holds the interpreter."""
SENDING_ENDS = 1.0
"""Seconds that the last batches have when the process ends."""


class TracingUnavailable(RuntimeError):
    """Tracing is configured, and the extra that it takes is not installed."""


def trace_exporter(settings: TracingSettings, surface: Surface, clock: Clock, call_later: CallLater) -> TraceExporter:
    """The exporter that `settings` want. Raises TracingUnavailable without the extra, which is imported here only: it
    takes 15 MB and a quarter of a second.
    """
    try:
        from sidecar.adapters.tracing.spans import SpanMaker, span_exporter  # noqa: PLC0415 - see above
    except ImportError as error:
        message = "`tracing` is configured, but OpenTelemetry is not installed: it comes with circuit-sidecar[otel]"
        raise TracingUnavailable(message) from error
    # It would tell of each batch that nobody takes; here that is told when it begins and when it ends.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return TraceExporter(settings, clock, call_later, SpanMaker(settings, surface), span_exporter(settings))


class Send(Protocol):
    """What sends spans: OpenTelemetry's exporter."""

    def export(self, spans: Sequence[ReadableSpan], /) -> object:
        """Send them; takes as long as that takes."""

    def shutdown(self) -> None:
        """Give up what is being sent."""


class TraceExporter:
    """Told of each finished request, on the hot path, where it only takes note of those that are traced.

    `call_later` is the event loop's. Beyond `max_queue` requests that wait, further ones are dropped and counted.
    """

    def __init__(
        self,
        settings: TracingSettings,
        clock: Clock,
        call_later: CallLater,
        spans: SpanMaker,
        exporter: Send,
    ) -> None:
        self._limit = settings.max_queue
        self._endpoint = settings.endpoint
        self._clock = clock
        self._call_later = call_later
        self._spans = spans
        self._exporter = exporter
        self._noted: list[Noted] = []
        self._batches: queue.SimpleQueue[list[Noted] | None] = queue.SimpleQueue()
        # Each of these is written by one thread only.
        self._taken = self._refused = 0
        self._done = self._lost = 0
        self._failing = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="trace-exporter", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Traced requests whose spans nobody got."""
        return self._refused + self._lost

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of `record` if it is traced."""
        headers = record.headers
        field = None if headers is None else headers.index.get(b"traceparent")
        if field is None or field[RECORDED] not in RECORDED_DIGITS:
            return
        if self._taken - self._done >= self._limit:
            self._refused += 1
            return
        self._taken += 1
        noted = self._noted
        noted.append((self._clock.wall(), self._clock.monotonic(), record))
        if len(noted) == 1:
            self._call_later(FLUSH_INTERVAL, self.flush)
        elif len(noted) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand over what was noted."""
        if self._noted:
            noted, self._noted = self._noted, []
            self._batches.put(noted)

    def close(self) -> None:
        """Send what was noted, for a short while. The loop has ended."""
        self.flush()
        self._batches.put(None)
        self._thread.join(SENDING_ENDS)
        self._closing = True
        self._exporter.shutdown()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._send(batch)
            except Exception:
                # The edge of a thread: whatever goes wrong with these spans, the next ones are sent.
                log.exception("spans could not be made")
                self._lost += len(batch)
            self._done += len(batch)

    def _send(self, batch: list[Noted]) -> None:
        spans: list[ReadableSpan] = []
        for noted in batch:
            spans += self._spans.of(noted)
            # Requests come first: the loop gets the interpreter after each.
            time.sleep(0)
        if not spans:
            return
        sent = self._exporter.export(spans)
        failed = getattr(sent, "name", "") != "SUCCESS"
        if failed:
            self._lost += len(batch)
        if failed is not self._failing and not self._closing:
            self._failing = failed
            if failed:
                log.warning("spans are lost: %s does not take them", self._endpoint)
            else:
                log.info("spans are taken by %s again", self._endpoint)
