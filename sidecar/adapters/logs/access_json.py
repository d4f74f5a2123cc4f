"""A finished request as one line of JSON."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING

from sidecar.core.http.trace_context import TRACEPARENT
from sidecar.core.redaction import REDACTED, Redaction

if TYPE_CHECKING:
    from sidecar.core.config import LogSettings
    from sidecar.core.http.heads import Headers
    from sidecar.pipeline.record import ExchangeRecord

LONGEST_VALUE = 256
"""Characters of a field's value."""
_trace = TRACEPARENT.match


class JsonAccessLines:
    """Makes the lines. The general case is written out in one function, because each line of the log is on the loop."""

    __slots__ = ("_fields", "_redaction", "_secret")

    def __init__(self, settings: LogSettings) -> None:
        self._redaction = Redaction(settings.redact_query) if settings.redact_query else None
        self._fields = tuple(name.encode() for name in settings.headers)
        self._secret = frozenset(name.encode() for name in settings.redact)

    def __call__(self, record: ExchangeRecord, time_of_day: str) -> str:
        """The line about `record`, ended. Octets that are no UTF-8 appear as `\\xNN`."""
        (
            route, method, octets, status, source, duration, sent, request_id, client,
            attempts, took, endpoint, headers, answered, _trail, *wrong,
        ) = record  # fmt: skip
        target = octets.decode("utf-8", "backslashreplace")
        if self._redaction is not None:
            target = self._redaction(target)
        more = f',"upstream_ms":{took * 1000:.3f},"endpoint":{quote(endpoint)}' if endpoint else ""
        if headers is not None:
            field = headers.index.get(b"traceparent")
            if field is not None and (found := _trace(field)) is not None:
                more += f',"trace_id":"{found[1].decode()}"'
            if self._fields:
                more += self._shown("request_headers", headers) + self._shown("response_headers", answered)
        if any(wrong):
            more += what_went_wrong(record)
        return (
            f'{{"time":"{time_of_day}","level":"info","logger":"sidecar.access","message":"request",'
            f'"route":{quote(route)},"method":{quote(method)},"target":{quote(target)},'
            f'"status":{status},"source":"{source}","duration_ms":{duration * 1000:.3f},"bytes_sent":{sent},'
            f'"request_id":{quote(request_id.decode("utf-8", "backslashreplace"))},"client":{quote(client)},'
            f'"attempts":{attempts}{more}}}\n'
        )

    def _shown(self, key: str, headers: Headers | None) -> str:
        """The member that shows those of `headers` that are to be shown."""
        index = {} if headers is None else headers.index
        members = [
            f"{quote(name.decode())}:{quote(self._value(name, index[name]))}" for name in self._fields if name in index
        ]
        return f',"{key}":{{{",".join(members)}}}' if members else ""

    def _value(self, name: bytes, value: bytes) -> str:
        return REDACTED if name in self._secret else value.decode("utf-8", "backslashreplace")[:LONGEST_VALUE]


def what_went_wrong(record: ExchangeRecord) -> str:
    """The last members."""
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
