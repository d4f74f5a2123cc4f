"""Active health probes (`health` of an upstream): they stand in for live probes while a circuit has no traffic.

Nothing is sent unless a circuit is due for a probe, and only such circuits are told (`pipeline/local_control.py`).
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from sidecar.core.circuit.explanation import Sample
from sidecar.core.circuit.open import parse_retry_after
from sidecar.pipeline.data_plane import ProbeResult

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sidecar.core.config import Endpoint, HealthCheck, UpstreamConfig
    from sidecar.pipeline.data_plane import ProbeControl
    from sidecar.pipeline.ports import Clock

REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "http_response_timeout"),
    (aiohttp.ClientConnectorCertificateError, "tls_protocol_error"),
    (aiohttp.ClientConnectorSSLError, "tls_protocol_error"),
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    (aiohttp.ClientConnectorError, "connection_refused"),
    (aiohttp.ClientResponseError, "http_protocol_error"),
    (aiohttp.ClientError, "connection_terminated"),
    (OSError, "connection_terminated"),
)
"""The label of each failure, the most particular class first; the same words as `pipeline/errors.py`."""


class HealthMonitor:
    """Asks one endpoint of an upstream after the other while any of the upstream's circuits is due for a probe.

    `tls` gives the context that `https` endpoints are verified with; None trusts what the system trusts. The server
    name of the upstream's TLS settings is sent and verified in place of an endpoint's host.
    """

    def __init__(
        self,
        upstream: UpstreamConfig,
        check: HealthCheck,
        circuits: ProbeControl,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self._name = upstream.name
        self._server_name = upstream.tls.server_name
        self._endpoints = cycle(upstream.endpoints)
        self._check = check
        self._circuits = circuits
        self._clock = clock
        self._tls = tls

    async def run(self) -> None:
        """Probe every `interval` seconds, for as long as the task lives."""
        while True:
            await asyncio.sleep(self._check.interval)
            await self.probe()

    async def probe(self) -> None:
        """One round: nothing is sent unless a circuit is due."""
        if await self._circuits.due(self._name):
            await self._circuits.settle(self._name, await self._ask(next(self._endpoints)))

    async def _ask(self, endpoint: Endpoint) -> ProbeResult:
        began = self._clock.monotonic()
        url = URL(f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}{self._check.path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=self._check.timeout)
        connector = aiohttp.UnixConnector(endpoint.unix_path) if endpoint.unix_path else aiohttp.TCPConnector()
        tls = self._tls() or True
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url, allow_redirects=False, ssl=tls, server_hostname=self._server_name) as response,
            ):
                wait = self._wait_of(response.headers.get("Retry-After"))
                return ProbeResult(response.status in self._check.expect, self._sample(began, response.status), wait)
        except (aiohttp.ClientError, OSError) as error:
            label = next(label for kind, label in REASONS if isinstance(error, kind))
            return ProbeResult(healthy=False, sample=self._sample(began, error=label))

    def _wait_of(self, field: str | None) -> float | None:
        """The seconds that a Retry-After field asks to wait."""
        return None if field is None else parse_retry_after(field.encode(errors="surrogateescape"), self._clock.wall())

    def _sample(self, began: float, status: int | None = None, error: str | None = None) -> Sample:
        return Sample(
            at=self._clock.wall(),
            request_id="health",
            method="GET",
            path=self._check.path,
            status=status,
            error=error,
            duration=self._clock.monotonic() - began,
        )
