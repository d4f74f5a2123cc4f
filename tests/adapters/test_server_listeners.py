"""Where clients may connect: Unix socket, IPv6, TLS, several addresses at once."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.support.client import GOOD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartOrigin, StartSidecar


async def test_listens_on_a_unix_socket(start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"listen": f"unix:{tmp_path}/proxy.sock"})
    client = await sidecar.connect()

    assert await client.is_usable()
    assert await client.is_usable()


async def test_replaces_a_unix_socket_that_a_dead_process_left(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{tmp_path}/proxy.sock")
    left.close()
    origin = await start_origin()

    sidecar = await start_sidecar(origin, proxy={"listen": f"unix:{tmp_path}/proxy.sock"})

    assert await sidecar.is_well()


async def test_listens_on_ipv6(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"listen": "[::1]:0"})

    assert await sidecar.is_well()


async def test_listens_on_several_addresses(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"listen": ["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/p.sock"]})

    for number in range(3):
        client = await sidecar.connect(number=number)
        assert await client.is_usable()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """A certificate for 127.0.0.1 and localhost, as PEM files."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return {"cert_file": str(chain), "key_file": str(key)}


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_serves_tls(
    start_origin: StartOrigin, start_sidecar: StartSidecar, server_files: dict[str, str], trusting: ssl.SSLContext
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"tls": server_files})
    client = await sidecar.connect(tls=trusting, server_hostname="localhost")

    assert await client.is_usable()
    assert await client.is_usable()


async def test_a_plain_request_to_a_tls_listener_is_closed(
    start_origin: StartOrigin, start_sidecar: StartSidecar, server_files: dict[str, str]
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"tls": server_files})
    client = await sidecar.connect()

    await client.send(GOOD)

    await client.until(lambda: client.ended)
    assert b"HTTP/1.1 200" not in client.received
    assert origin.connections == []


async def test_an_untrusting_client_does_not_disturb_the_others(
    start_origin: StartOrigin, start_sidecar: StartSidecar, server_files: dict[str, str], trusting: ssl.SSLContext
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"tls": server_files})

    with pytest.raises(ssl.SSLError):
        await sidecar.connect(tls=ssl.create_default_context(), server_hostname="localhost")

    client = await sidecar.connect(tls=trusting, server_hostname="localhost")
    assert await client.is_usable()


async def test_clients_must_show_a_certificate_when_told_so(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    server_files: dict[str, str],
    trusting: ssl.SSLContext,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"tls": {**server_files, "client_ca_file": str(tmp_path / "ca.pem")}})

    try:
        stranger = await sidecar.connect(tls=trusting, server_hostname="localhost")
        await stranger.send(GOOD)
        await stranger.until(lambda: stranger.ended)
        assert stranger.received == b""
    except (ssl.SSLError, ConnectionError):
        pass  # with TLS 1.2 the handshake itself fails
    authority.issue_cert("client").configure_cert(trusting)
    known = await sidecar.connect(tls=trusting, server_hostname="localhost")
    assert await known.is_usable()
    assert len(origin.requests) == 1
