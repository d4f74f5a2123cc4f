"""The access log."""

from __future__ import annotations

import random
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.logs.form import JSON_FORM
from sidecar.adapters.logs.json_line import to_the_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.logs.form import LineForm
    from sidecar.adapters.logs.sink import Write
    from sidecar.pipeline.record import ExchangeRecord

FLUSH_INTERVAL = 0.2
BATCH_LINES = 256
"""About 64 KiB of access log."""

Noted: TypeAlias = "tuple[float, ExchangeRecord]"
"""A line to be: seconds since 1970, and what it tells."""


class AccessLog:
    """One line per finished request; called on the hot path, so it only takes note (pipeline/record.py).

    Lines are made at most 200 ms later, or once 256 wait, in the `form` given. `call_later` is the event loop's; `wall`
    gives seconds since 1970 UTC. Of requests in which nothing went wrong only the share `sample` is noted, as `chance`
    decides.
    """

    __slots__ = ("_call_later", "_chance", "_line", "_noted", "_sample", "_wall", "_write")

    def __init__(
        self,
        write: Write,
        call_later: Callable[[float, Callable[[], None]], object],
        wall: Callable[[], float],
        form: LineForm = JSON_FORM,
        *,
        sample: float = 1.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._write = write
        self._call_later = call_later
        self._wall = wall
        self._line = form.request
        self._sample = sample
        self._chance = chance
        self._noted: list[Noted] = []

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of `record`, which must not change any more."""
        if self._sample < 1 and not _went_wrong(record) and self._chance() >= self._sample:
            return
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
        line, lines, second, prefix = self._line, [], -1, ""
        for at, record in noted:
            if int(at) != second:
                second = int(at)
                prefix = to_the_second(second)
            lines.append(line(record, f"{prefix}.{int(at * 1000) - second * 1000:03d}Z"))
        self._write("".join(lines).encode("ascii"), len(lines))


def _went_wrong(record: ExchangeRecord) -> bool:
    failed = record.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return failed or bool(record.reason or record.error or record.stale_because or record.fallback) or record.aborted
