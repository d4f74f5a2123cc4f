"""How upstreams are reached: TLS, Unix sockets, IPv6, several endpoints."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ, STALL
from tests.support.wire import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.client import RawClient
    from tests.support.messages import WireResponse
    from tests.support.origin import RawOrigin


def says(response: WireResponse, error: str) -> bool:
    return response.get("proxy-status") == f"sidecar; error={error}".encode()


async def test_reaches_an_upstream_over_a_unix_socket(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    origin = await start_origin(unix_path=f"{tmp_path}/origin.sock")
    sidecar = await start_sidecar(origin)

    assert await sidecar.is_well()
    assert await sidecar.is_well()
    assert len(origin.connections) == 1
    assert origin.requests[0].get("host") == b"localhost"


async def test_reaches_an_upstream_over_ipv6(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin(host="::1")
    sidecar = await start_sidecar(origin)

    assert await sidecar.is_well()
    assert origin.request.get("host") == f"[::1]:{origin.port}".encode()


async def test_reaches_an_upstream_by_name(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(f"http://localhost:{origin.port}")

    assert await sidecar.is_well()
    assert origin.request.get("host") == f"localhost:{origin.port}".encode()


async def test_a_base_path_stands_before_every_target(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(f"{origin.url}/base")

    await sidecar.get("/a//b?c")

    assert origin.request.target == b"/base/a//b?c"


async def test_every_endpoint_gets_its_share(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origins = [await start_origin() for _ in range(3)]
    sidecar = await start_sidecar([origin.url for origin in origins])
    client = await sidecar.connect()

    for _ in range(60):
        assert await client.is_usable()

    assert sum(len(origin.requests) for origin in origins) == 60
    assert all(len(origin.requests) > 3 for origin in origins)


async def answered_or_stuck(client: RawClient, busy: RawOrigin) -> None:
    before = len(busy.requests)
    await eventually(lambda: client.unread or len(busy.requests) > before)


async def test_a_busy_endpoint_is_spared(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    busy, free = await start_origin((READ, STALL)), await start_origin()
    sidecar = await start_sidecar([busy.url, free.url])

    for _ in range(40):
        client = await sidecar.connect()
        await client.send(GOOD)
        await answered_or_stuck(client, busy)

    assert len(busy.requests) <= 1
    assert len(free.requests) >= 39


async def test_an_endpoint_that_refuses_cools_down_while_the_other_serves(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    dead, alive = await start_origin(), await start_origin()
    url = dead.url
    await dead.stop()
    sidecar = await start_sidecar([url, alive.url], upstream={"pool": {"cooldown": "60s"}})

    statuses = [(await sidecar.get()).status for _ in range(30)]

    assert statuses.count(502) <= 1, "a refusal is noticed once"
    assert statuses[-20:] == [200] * 20


async def test_all_endpoints_cooling_down_are_tried_all_the_same(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    dead = await start_origin()
    await dead.stop()
    sidecar = await start_sidecar(dead, upstream={"pool": {"cooldown": "60s"}})

    assert says(await sidecar.get(), "connection_refused")
    await dead.start(port=dead.port)

    assert await sidecar.is_well()


class Tls:
    """An authority, and origins that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca_file = self._file("ca.pem", self.authority.cert_pem.bytes())
        self.asked_for: list[str | None] = []

    def _file(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        context.sni_callback = lambda _socket, name, _context: self.asked_for.append(name)
        return context

    def client_files(self, authority: trustme.CA | None = None) -> dict[str, str]:
        certificate = (authority or self.authority).issue_cert("client")
        return {
            "cert_file": self._file("client.pem", b"".join(pem.bytes() for pem in certificate.cert_chain_pems)),
            "key_file": self._file("client.key", certificate.private_key_pem.bytes()),
        }


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


async def test_a_certificate_of_a_known_authority_is_trusted(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    origin = await start_origin(tls=tls.server("localhost"))
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": {"ca_file": tls.ca_file}})

    assert await sidecar.is_well()
    assert await sidecar.is_well()
    assert len(origin.connections) == 1
    assert tls.asked_for == ["localhost"]


UNTRUSTED: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown-authority": ("localhost", {}),
    "wrong-name": ("elsewhere.example", {"ca_file": "ca"}),
    "wrong-server-name": ("localhost", {"ca_file": "ca", "server_name": "elsewhere.example"}),
}


@pytest.mark.parametrize(("name", "settings"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_a_certificate_in_doubt_is_refused(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls, name: str, settings: dict[str, Any]
) -> None:
    origin = await start_origin(tls=tls.server(name))
    settings = {key: tls.ca_file if key == "ca_file" else value for key, value in settings.items()}
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": settings})

    response = await sidecar.get()

    assert response.status == 502
    assert says(response, "tls_protocol_error")
    assert origin.requests == []


async def test_the_server_name_may_differ_from_the_address(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    origin = await start_origin(tls=tls.server("inside.example"))
    settings = {"ca_file": tls.ca_file, "server_name": "inside.example"}
    sidecar = await start_sidecar(f"https://127.0.0.1:{origin.port}", upstream={"tls": settings})

    assert await sidecar.is_well()
    assert tls.asked_for == ["inside.example"]


async def test_verification_can_be_switched_off(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    origin = await start_origin(tls=tls.server("elsewhere.example"))
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": {"verify": False}})

    assert await sidecar.is_well()


async def test_shows_its_certificate_to_an_upstream_that_asks(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    context = tls.server("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(context)
    origin = await start_origin(tls=context)
    url = f"https://localhost:{origin.port}"

    shown = await start_sidecar(url, upstream={"tls": {"ca_file": tls.ca_file, **tls.client_files()}})
    assert await shown.is_well()
    missing = await start_sidecar(url, upstream={"tls": {"ca_file": tls.ca_file}})
    assert (await missing.get()).status == 502


async def test_an_authority_that_is_replaced_on_disk_is_trusted_from_then_on(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    origin = await start_origin(tls=tls.server("localhost"))
    trustme.CA().cert_pem.write_to_path(tls.ca_file)
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": {"ca_file": tls.ca_file}})
    assert says(await sidecar.get(), "tls_protocol_error")

    tls.authority.cert_pem.write_to_path(tls.ca_file)

    assert await sidecar.is_well()


async def test_an_upstream_that_speaks_plainly_is_a_tls_error(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    origin = await start_origin((b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", STALL))
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": {"ca_file": tls.ca_file}})

    response = await sidecar.get()

    assert response.status == 502
    assert says(response, "tls_protocol_error")


async def test_a_handshake_that_stands_still_times_out(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((STALL,))
    sidecar = await start_sidecar(
        f"https://localhost:{origin.port}", upstream={"timeouts": {"connect": "150ms"}, "tls": {"verify": False}}
    )

    response = await sidecar.get()

    assert response.status == 504
    assert says(response, "connection_timeout")
    assert await origin.ended() is not None


async def test_a_tls_upstream_that_drops_the_connection_cuts_the_answer(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tls: Tls
) -> None:
    """Without close_notify a close-delimited body may be truncated by anyone (RFC 8446 §6.1)."""
    script = (READ, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!", GATE)
    origin = await start_origin(script, (READ, OK, AGAIN), tls=tls.server("localhost"))
    sidecar = await start_sidecar(f"https://localhost:{origin.port}", upstream={"tls": {"ca_file": tls.ca_file}})
    client = await sidecar.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()

    origin.connections[0].transport.abort()

    assert await client.was_cut()
    assert await sidecar.is_well()
