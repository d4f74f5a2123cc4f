"""The access log."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.logs.json_line import to_the_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.logs.sink import Write
    from sidecar.pipeline.record import ExchangeRecord

FLUSH_INTERVAL = 0.2
BATCH_LINES = 256
"""About 64 KiB of access log."""

Noted: TypeAlias = "tuple[float, ExchangeRecord]"
"""A line to be: seconds since 1970, and what it tells."""


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
    route, method, target, status, source, duration, sent, request_id, client, attempts, *rest = record
    wrong = what_went_wrong(record) if any(rest) else ""
    return (
        f'{{"time":"{time_of_day}","level":"info","logger":"sidecar.access","message":"request",'
        f'"route":{quote(route)},"method":{quote(method)},"target":{quote(target.decode("utf-8", "backslashreplace"))},'
        f'"status":{status},"source":"{source}","duration_ms":{duration * 1000:.3f},"bytes_sent":{sent},'
        f'"request_id":{quote(request_id.decode("utf-8", "backslashreplace"))},"client":{quote(client)},'
        f'"attempts":{attempts}{wrong}}}\n'
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
    if record.fallback:
        said += f',"fallback":{quote(record.fallback)}'
    return said + ',"aborted":true' if record.aborted else said
