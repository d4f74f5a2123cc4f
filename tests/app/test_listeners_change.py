"""A reload moves listeners: who is connected stays so, and what cannot be had changes nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.support.client import GOOD, connect
from tests.support.configured import Configured, written
from tests.support.origin import AGAIN, GATE, OK, READ

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.conftest import Configure
    from tests.conftest import StartOrigin

ROUTES: list[dict[str, Any]] = [{"name": "all", "match": {"prefix": "/"}, "upstream": "shop"}]


def text_for(url: str, **listeners: Any) -> str:
    return written({"shop": {"url": url, "cache": {"mode": "off"}}}, routes=ROUTES, **listeners)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


async def moved(sidecar: Configured, text: str) -> None:
    status, answer = await reload(sidecar, text)
    assert (status, answer["needs_restart"]) == (200, []), answer
    sidecar.addresses = sidecar.running.addresses


async def reload(sidecar: Configured, text: str) -> tuple[int, Any]:
    sidecar.write(text)
    return await sidecar.call("POST", "/v1/config/reload")


async def refuses(address: tuple[str, int]) -> bool:
    try:
        (await connect(address)).transport.abort()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("listener", ["proxy", "admin", "telemetry"])
async def test_a_listener_moves_to_another_port(start_origin: StartOrigin, configure: Configure, listener: str) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url))
    before: tuple[str, int] = sidecar.addresses[listener][0]
    port = free_port()

    await moved(sidecar, text_for(url, **{listener: {"listen": f"127.0.0.1:{port}"}}))

    assert sidecar.addresses[listener] == [("127.0.0.1", port)]
    assert await refuses(before)
    assert await sidecar.is_well()
    info = (await sidecar.call("GET", "/v1/info"))[1]
    assert info["listeners"][listener] == [f"127.0.0.1:{port}"]
    assert (await sidecar.metrics()).total("sidecar_config_reloads_total", result="success") == 1


async def test_accepted_connections_stay(start_origin: StartOrigin, configure: Configure) -> None:
    origin = await start_origin((READ, OK, READ, GATE, OK, AGAIN))
    sidecar = await configure(text_for(origin.url))
    idle, busy = await sidecar.connect(), await sidecar.connect()
    assert (await busy.exchange(GOOD)).status == 200
    await busy.send(GOOD)
    await origin.until(lambda seen: len(seen.requests) == 2)

    await moved(sidecar, text_for(origin.url, proxy={"listen": f"127.0.0.1:{free_port()}"}))
    origin.gate.set()

    assert (await busy.response()).status == 200
    assert (await idle.exchange(GOOD)).status == 200
    assert (await busy.exchange(GOOD)).status == 200
    assert await sidecar.is_well()


async def test_a_wider_address_takes_over_the_port(start_origin: StartOrigin, configure: Configure) -> None:
    url = (await start_origin()).url
    port = free_port("0.0.0.0")
    sidecar = await configure(text_for(url, proxy={"listen": f"127.0.0.1:{port}"}))
    client = await sidecar.connect()

    for host in ("0.0.0.0", "127.0.0.1"):
        await moved(sidecar, text_for(url, proxy={"listen": f"{host}:{port}"}))
        assert (await client.exchange(GOOD)).status == 200
        assert await sidecar.is_well()


async def test_a_unix_socket_comes_and_goes(start_origin: StartOrigin, configure: Configure, tmp_path: Path) -> None:
    url, path = (await start_origin()).url, tmp_path / "proxy.sock"
    both = {"listen": ["127.0.0.1:0", f"unix:{path}"]}
    sidecar = await configure(text_for(url))

    await moved(sidecar, text_for(url, proxy=both))
    client = await sidecar.connect(number=1)
    assert (await client.exchange(GOOD)).status == 200

    await moved(sidecar, text_for(url))
    assert not path.exists()
    assert (await client.exchange(GOOD)).status == 200


async def test_nobody_is_refused_while_a_listener_is_added_and_taken_away(
    start_origin: StartOrigin, configure: Configure
) -> None:
    url, port = (await start_origin()).url, free_port()
    sidecar = await configure(text_for(url))
    stop = asyncio.Event()
    statuses: list[int] = []

    async def call_again_and_again() -> None:
        while not stop.is_set():
            client = await connect(sidecar.addresses["proxy"][0])
            statuses.append((await client.exchange(GOOD)).status)
            client.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(call_again_and_again())
        for listen in [["127.0.0.1:0", f"127.0.0.1:{port}"], "127.0.0.1:0"] * 5:
            await reload(sidecar, text_for(url, proxy={"listen": listen}))
        stop.set()

    assert set(statuses) == {200}


@pytest.mark.parametrize("listener", ["proxy", "admin", "telemetry"])
async def test_an_address_in_use_changes_nothing_and_names_the_line(
    start_origin: StartOrigin, configure: Configure, listener: str
) -> None:
    url = (await start_origin()).url
    sidecar = await configure(text_for(url))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, elsewhere = taken.getsockname()[1], free_port()
        listeners: dict[str, Any] = {
            name: {"listen": f"127.0.0.1:{elsewhere + number}"} for number, name in enumerate(("proxy", "telemetry"))
        }
        listeners[listener] = {"listen": f"127.0.0.1:{port}"}
        text = text_for(url, **listeners)
        status, problem = await reload(sidecar, text)

    (error,) = problem["errors"]
    assert status == 422
    assert error["message"].startswith(f"{listener}.listen: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert f"127.0.0.1:{port}" in text.splitlines()[error["line"] - 1]
    assert await sidecar.is_well()
    assert (await sidecar.metrics()).total("sidecar_config_reloads_total", result="error") == 1
    assert await refuses(("127.0.0.1", elsewhere))


async def test_tls_begins_and_ends_on_the_same_port(
    start_origin: StartOrigin, configure: Configure, tmp_path: Path
) -> None:
    url, port = (await start_origin()).url, free_port()
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    listen = f"127.0.0.1:{port}"
    plain = text_for(url, proxy={"listen": listen})
    sidecar = await configure(plain)
    early = await sidecar.connect()

    await moved(
        sidecar, text_for(url, proxy={"listen": listen, "tls": {"cert_file": str(chain), "key_file": str(key)}})
    )
    secret = await sidecar.connect(tls=trusting, server_hostname="localhost")
    assert (await secret.exchange(GOOD)).status == 200
    assert (await early.exchange(GOOD)).status == 200

    await moved(sidecar, plain)
    assert await sidecar.is_well()
    assert (await secret.exchange(GOOD)).status == 200
