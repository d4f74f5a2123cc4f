"""What is known of a request when it is over: one line of the access log."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class ExchangeRecord(NamedTuple):
    """One finished request. `duration` is seconds until the response body ended; `bytes_sent` counts its payload
    octets.

    `status` is 499 when the client left before a response head. `reason` is an error's label, or "" when nothing
    went wrong;
    `detail` says it in words. `aborted`: the response was cut short after its head.
    """

    route: str
    method: str
    target: bytes
    status: int
    source: str
    duration: float
    bytes_sent: int
    request_id: bytes
    client: str
    reason: str = ""
    detail: str = ""
    aborted: bool = False


class AccessLog(Protocol):
    """Who is told of each finished request. Must neither raise nor wait."""

    def __call__(self, record: ExchangeRecord) -> None:
        """Take note of `record`."""
