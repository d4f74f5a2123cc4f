"""Active health probes (`health` of an upstream): they stand in for live probes while a circuit has no traffic.

Only a circuit that is due for a probe is told. A closed one never hears of them, so a health endpoint that lies
cannot hide, in the window, what real requests meet; and an open one is left alone until its time is over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from sidecar.core.circuit.explanation import Sample
from sidecar.core.circuit.open import parse_retry_after
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Role

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import Endpoint, HealthCheck
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What one health probe found. One of `status` and `error` is set."""

    healthy: bool
    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    """Seconds that the answer asks to wait."""


class HealthMonitor:
    """Asks one endpoint of an upstream after the other while any of the upstream's circuits is due for a probe.

    `tls` gives the context that `https` endpoints are verified with; None trusts what the system trusts. `server_name`
    is sent and verified in place of an endpoint's host.
    """

    def __init__(
        self,
        check: HealthCheck,
        endpoints: Iterable[Endpoint],
        circuits: Callable[[], Iterable[Circuit]],
        clock: Clock,
        tls: Callable[[], ssl.SSLContext] | None = None,
        server_name: str | None = None,
    ) -> None:
        self._check = check
        self._endpoints = cycle(endpoints)
        self._circuits = circuits
        self._clock = clock
        self._tls = tls
        self._server_name = server_name

    async def run(self) -> None:
        """Probe every `interval` seconds, for as long as the task lives."""
        while True:
            await asyncio.sleep(self._check.interval)
            await self.probe()

    async def probe(self) -> None:
        """One round: nothing is sent unless a circuit is due."""
        if not self._due():
            return
        began = self._clock.monotonic()
        finding = await self._ask(next(self._endpoints))
        describe = partial(self._sample, finding, self._clock.monotonic() - began)
        for circuit in self._due():
            self._tell(circuit, finding, describe)

    def _due(self) -> list[Circuit]:
        """Circuits whose next request would be a probe, and which have a permit for it."""
        now = self._clock.monotonic()
        return [
            circuit for circuit in self._circuits() if circuit.probing(now) and circuit.peek(now, safe=True) is None
        ]

    def _tell(self, circuit: Circuit, finding: Finding, describe: Callable[[], Sample]) -> None:
        """Take a probe's permit and settle it at once: while the answer was awaited, live requests had precedence."""
        now = self._clock.monotonic()
        permit = circuit.ask(now, safe=True)
        if not isinstance(permit, Permit):
            return
        verdict = Outcome.SUCCESS if finding.healthy else Outcome.FAILURE
        outcome = verdict if permit.role is Role.PROBE else Outcome.NOT_SENT
        circuit.settle(permit, outcome, now, describe=describe, retry_after=finding.retry_after)

    async def _ask(self, endpoint: Endpoint) -> Finding:
        url = URL(f"{endpoint.scheme}://{endpoint.authority}{endpoint.base_path}{self._check.path}", encoded=True)
        tls = True if self._tls is None else self._tls()
        timeout = aiohttp.ClientTimeout(total=self._check.timeout)
        connector = aiohttp.UnixConnector(endpoint.unix_path) if endpoint.unix_path else aiohttp.TCPConnector()
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url, allow_redirects=False, ssl=tls, server_hostname=self._server_name) as response,
            ):
                asked = response.headers.get("Retry-After")
                wait = (
                    None
                    if asked is None
                    else parse_retry_after(asked.encode(errors="surrogateescape"), self._clock.wall())
                )
                return Finding(response.status in self._check.expect, status=response.status, retry_after=wait)
        except (aiohttp.ClientError, OSError) as error:
            return Finding(healthy=False, error=next(label for kind, label in REASONS if isinstance(error, kind)))

    def _sample(self, finding: Finding, duration: float) -> Sample:
        return Sample(
            at=self._clock.wall(),
            request_id="health",
            method="GET",
            path=self._check.path,
            status=finding.status,
            error=finding.error,
            duration=duration,
        )
