"""Upstreams by name: looked up again on a timer, with connections to vanished addresses left in good order."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, GATE, OK, READ

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar


class Names:
    """A resolver for this loop that answers what it is told."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.fails = False
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert host == "service.test"
        self.asked += 1
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo)
    return names


REFRESH = {"pool": {"dns_refresh": "50ms"}}


async def test_a_service_that_moved_is_followed_and_its_old_connections_are_closed(
    start_origin: StartOrigin, start_sidecar: StartSidecar, names: Names
) -> None:
    old = await start_origin()
    new = await start_origin(host="127.0.0.2", port=old.port)
    sidecar = await start_sidecar(f"http://service.test:{old.port}", upstream=REFRESH)
    client = await sidecar.connect()
    assert await client.is_usable()
    assert len(old.requests) == 1

    names.addresses = ["127.0.0.2"]
    async with asyncio.timeout(5):
        while not new.requests:
            assert await client.is_usable()

    assert await old.ended() is not None


async def test_a_request_on_a_vanished_address_is_finished_first(
    start_origin: StartOrigin, start_sidecar: StartSidecar, names: Names
) -> None:
    old = await start_origin((READ, GATE, OK, AGAIN))
    new = await start_origin(host="127.0.0.2", port=old.port)
    sidecar = await start_sidecar(f"http://service.test:{old.port}", upstream=REFRESH)
    slow, client = await sidecar.connect(), await sidecar.connect()
    await slow.send(GOOD)
    await old.until(lambda seen: seen.requests)

    names.addresses = ["127.0.0.2"]
    await old.until(lambda _: names.asked >= 1)
    async with asyncio.timeout(5):
        while not new.requests:
            waiting = await sidecar.connect()
            await waiting.send(GOOD)
            await asyncio.sleep(0.02)
    old.gate.set()

    assert (await slow.response()).status == 200
    assert await old.ended() is not None
    assert await client.is_usable()


async def test_a_lookup_that_fails_keeps_the_known_address(
    start_origin: StartOrigin, start_sidecar: StartSidecar, names: Names
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(f"http://service.test:{origin.port}", upstream=REFRESH)
    client = await sidecar.connect()
    assert await client.is_usable()

    names.fails = True
    asked = names.asked
    async with asyncio.timeout(5):
        while names.asked == asked:
            assert await client.is_usable()

    assert await client.is_usable()
    assert len(origin.connections) == 1


async def test_every_address_of_a_name_is_used(
    start_origin: StartOrigin, start_sidecar: StartSidecar, names: Names
) -> None:
    first = await start_origin()
    second = await start_origin(host="127.0.0.2", port=first.port)
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    sidecar = await start_sidecar(f"http://service.test:{first.port}")
    client = await sidecar.connect()

    for _ in range(40):
        assert await client.is_usable()

    assert len(first.requests) > 3
    assert len(second.requests) > 3


async def test_a_name_that_comes_to_life_is_found(
    start_origin: StartOrigin, start_sidecar: StartSidecar, names: Names
) -> None:
    origin = await start_origin()
    names.fails = True
    sidecar = await start_sidecar(
        f"http://service.test:{origin.port}", upstream={**REFRESH, "breaker": {"mode": "off"}}
    )
    client = await sidecar.connect()
    for _ in range(3):
        refused = await client.exchange(GOOD)
        assert (refused.status, refused.get("proxy-status")) == (502, b"sidecar; error=dns_error")

    names.fails = False

    async with asyncio.timeout(5):
        while not await client.is_usable():
            pass
