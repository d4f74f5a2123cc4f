"""The tamed client: one try, a deadline around it, and no answer that is taken for another one's."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from redis import exceptions

from sidecar.adapters.redis.client import RedisClient
from sidecar.adapters.redis.failure import ALL_KINDS, CALM, KINDS, Trouble, unavailable
from sidecar.adapters.redis.script import Script
from sidecar.config.redis_url import redis_url
from sidecar.core.fleet_settings import RedisSettings, RedisTls
from sidecar.pipeline.fleet.ports import StoreUnavailable
from sidecar.pipeline.stats import FleetStats
from tests.support.redis_server import RedisServer, free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ECHO = Script("return ARGV[1]", "098e0f0d1448c0a81dafe820f66d460eb09263da")


class Tame(RedisClient):
    """A client with counters of its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.now = 0.0
        super().__init__(
            RedisSettings(redis_url(url), **settings), FleetStats(), Trouble(FleetStats(), lambda: self.now)
        )

    async def ask(self, *command: str | int, deadline: float = 2.0) -> Any:
        return await self.call(*command, deadline=deadline, doing="test")

    async def is_well(self) -> bool:
        return bool(await self.ask("ECHO", "well") == b"well")


@pytest.fixture
async def server(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[RedisServer]:  # noqa: ARG001 - torn down after it
    async with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Tame]:
    client = Tame(server.url)
    yield client
    await client.close()


async def test_a_command_is_counted_and_says_that_redis_is_there(client: Tame) -> None:
    assert not client.stats.up
    assert await client.is_well()
    assert (client.stats.up, client.stats.commands) == (True, 1)


async def test_a_frozen_server_costs_the_deadline_and_no_more(server: RedisServer, client: Tame) -> None:
    await client.ask("PING")
    server.freeze()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as failure:
        await client.ask("PING", deadline=0.2)
    assert time.monotonic() - began < 1.0
    assert failure.value.kind == "timeout"
    found = [client.stats.up]
    with pytest.raises(StoreUnavailable):
        await client.ask("PING", deadline=1.0)
    found.append(client.stats.up)
    assert found == [True, False], "who was in a hurry has not found out that nobody is there"
    server.thaw()
    assert await client.is_well()


async def test_a_server_that_accepts_and_never_answers_costs_the_deadline(no_task_leaks: None) -> None:  # noqa: ARG001
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    client = Tame(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    with pytest.raises(StoreUnavailable) as failure:
        await client.ask("PING", deadline=0.1)
    assert failure.value.kind == "timeout"
    await client.close()
    silent.close()
    await silent.wait_closed()


async def test_nobody_there_is_told_at_once(no_task_leaks: None) -> None:  # noqa: ARG001
    client = Tame(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable) as failure:
        await client.ask("PING")
    assert failure.value.kind == "connection"
    assert client.stats.commands == 1, "it is tried once"
    await client.close()


async def test_a_cancelled_command_leaves_no_connection_out_of_step(server: RedisServer, client: Tame) -> None:
    await client.ask("SET", "who", "the wrong one")
    for _ in range(20):
        server.freeze()
        asking = [asyncio.create_task(client.ask("GET", "who")) for _ in range(3)]
        await asyncio.sleep(0.005)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        server.thaw()
        echoes = await asyncio.gather(*(client.ask("ECHO", number) for number in range(5)))
        assert echoes == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_script_is_sent_where_the_server_does_not_know_it(client: Tame) -> None:
    for commands in (2, 3):
        assert await client.run(ECHO, "k", "hello", deadline=2.0, doing="test") == b"hello"
        assert client.stats.commands == commands


async def test_a_server_that_comes_back_is_used_again(server: RedisServer, client: Tame) -> None:
    await client.ask("PING")
    await server.stop()
    with pytest.raises(StoreUnavailable):
        await client.ask("PING")
    await server.start()
    assert await client.is_well()


# What it is told to connect to


async def test_an_acl_user_whose_password_is_in_a_file_that_may_change(server: RedisServer, tmp_path: Path) -> None:
    await server.ask("ACL", "SETUSER", "app", "on", ">first", "~*", "+@all")
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    client = Tame(server.url, username="app", password_file=str(secret))
    with pytest.raises(StoreUnavailable) as failure:
        await client.ask("PING")
    assert failure.value.kind == "auth"
    secret.write_text("first\n")
    assert await client.ask("ACL", "WHOAMI") == b"app"
    await client.close()


async def test_a_password_in_the_url(server: RedisServer) -> None:
    await server.ask("CONFIG", "SET", "requirepass", "sesame")
    server.password = "sesame"
    client = Tame(f"redis://:sesame@127.0.0.1:{server.port}/3")
    assert await client.is_well()
    assert b"db=3" in await client.ask("CLIENT", "INFO")
    await client.close()


async def test_a_unix_socket(tmp_path: Path, no_task_leaks: None) -> None:  # noqa: ARG001
    path = tmp_path / "r.sock"
    async with redis_server(tmp_path, "redis", "--unixsocket", str(path)):
        client = Tame(f"unix:{path}")
        assert await client.is_well()
        await client.close()


async def test_tls_with_and_without_a_known_authority(tmp_path: Path, no_task_leaks: None) -> None:  # noqa: ARG001
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    names = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(names["ca"])
    certificate.cert_chain_pems[0].write_to_path(names["cert"])
    certificate.private_key_pem.write_to_path(names["key"])
    port = free_port()
    async with redis_server(
        tmp_path, "redis", "--tls-port", str(port), "--tls-cert-file", str(names["cert"]),
        "--tls-key-file", str(names["key"]), "--tls-ca-cert-file", str(names["ca"]),
    ):  # fmt: skip
        shown = RedisTls(cert_file=str(names["cert"]), key_file=str(names["key"]))
        known = Tame(f"rediss://127.0.0.1:{port}", tls=replace(shown, ca_file=str(names["ca"])))
        assert await known.is_well()
        unknown = Tame(f"rediss://127.0.0.1:{port}", tls=shown)
        with pytest.raises(StoreUnavailable) as failure:
            await unknown.ask("PING")
        assert failure.value.kind == "connection"
        unverified = Tame(f"rediss://127.0.0.1:{port}", tls=replace(shown, verify=False))
        assert await unverified.is_well()
        for client in (known, unknown, unverified):
            await client.close()


async def test_sentinels_name_the_master(server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {server.port} 1\n")
    sentinel = await asyncio.create_subprocess_exec(
        "redis-server", str(config), "--sentinel", stdout=asyncio.subprocess.DEVNULL, cwd=tmp_path
    )
    client = Tame(f"redis+sentinel://127.0.0.1:{port}/shop")
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await client.ask("INFO", "server"))["tcp_port"] == server.port
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    break
    finally:
        await client.close()
        sentinel.kill()
        await sentinel.wait()


# What goes wrong

SAYS = {
    "READONLY You can't write against a read only replica.": "readonly",
    "OOM command not allowed when used memory > 'maxmemory'.": "oom",
    "LOADING Redis is loading the dataset in memory": "loading",
    "BUSY Redis is busy running a script.": "busy",
    "WRONGTYPE Operation against a key holding the wrong kind of value": "wrong_type",
    "NOPERM this user has no permissions": "permission",
    "WRONGPASS invalid username-password pair or user is disabled.": "auth",
    "NOAUTH Authentication required.": "auth",
    "MASTERDOWN Link with MASTER is down": "master_down",
    "MOVED 7000 127.0.0.1:7001": "moved",
    "CLUSTERDOWN The cluster is down": "cluster",
    "ERR unknown command": "refused",
    "ERR user_script:7: WRONGTYPE Operation against a key": "wrong_type",
}


@pytest.mark.parametrize(("says", "kind"), SAYS.items(), ids=SAYS)
async def test_what_the_server_says_has_a_kind(says: str, kind: str, no_task_leaks: None) -> None:  # noqa: ARG001
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(f"-{says}\r\n".encode())
        await writer.drain()
        writer.close()

    strange = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = Tame(f"redis://127.0.0.1:{strange.sockets[0].getsockname()[1]}")
    with pytest.raises(StoreUnavailable) as failure:
        await client.ask("PING")
    assert failure.value.kind == kind
    await client.close()
    strange.close()
    await strange.wait_closed()


@pytest.mark.parametrize(
    "octets", [b"*1\r\n$-7\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nab"], ids=["length", "http", "cut short"]
)
async def test_a_server_that_is_no_redis_is_a_failure_like_others(octets: bytes, no_task_leaks: None) -> None:  # noqa: ARG001
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(octets)
        await writer.drain()
        writer.close()

    strange = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = Tame(f"redis://127.0.0.1:{strange.sockets[0].getsockname()[1]}")
    with pytest.raises(StoreUnavailable):
        await client.ask("PING")
    await client.close()
    strange.close()
    await strange.wait_closed()


@pytest.mark.parametrize(
    ("error", "kind"), KINDS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_every_error_of_the_client_has_a_kind(error: type[Exception], kind: str) -> None:
    made = error("7000 127.0.0.1:7001") if issubclass(error, exceptions.AskError) else error("x")
    assert unavailable(made).kind == kind
    assert kind in ALL_KINDS


def test_an_error_of_tls_is_one_of_the_connection() -> None:
    assert unavailable(ssl.SSLError("bad certificate")).kind == "connection"


def test_a_trouble_is_logged_once_for_each_kind_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    stats = FleetStats()
    trouble = Trouble(stats, lambda: now[0])
    caplog.set_level(logging.INFO)
    for number in range(1000):
        now[0] += 0.25
        trouble.failed(StoreUnavailable(("timeout", "connection")[number % 2], "no"), "look at the fleet")
        trouble.answered()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert stats.errors == {"timeout": 500, "connection": 500}
    now[0] += CALM
    trouble.answered()
    trouble.answered()
    assert caplog.records[2].getMessage() == "Redis answers again, after: connection, timeout"
    assert len(caplog.records) == 3
    trouble.failed(StoreUnavailable("timeout", "no"), "look at the fleet")
    assert len(caplog.records) == 4
