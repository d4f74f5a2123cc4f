"""A client of Redis that never holds anybody up: no retries of its own, a deadline around every call.

The library's defaults are made for programs that wait. Ten retries turn a timeout of 0.2 s into 5.6 s, and a socket
timeout breaks a subscription that nobody talks on. Here a call is tried once; whoever wants to try again decides so.
A call that is cut off by its deadline, or cancelled, gives its connection up: the answer that is still to come on it
must not be taken for the next one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError

from sidecar.adapters.redis.failure import CAUGHT, unavailable
from sidecar.core.fleet_settings import RedisKind
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from sidecar.adapters.redis.failure import Trouble
    from sidecar.adapters.redis.script import Script
    from sidecar.core.fleet_settings import RedisSettings
    from sidecar.pipeline.stats import FleetStats

CONNECT_TIMEOUT = 1.0
MOST_CONNECTIONS = 32


class Credentials(CredentialProvider):
    """User and password, the latter read anew for each connection where it stands in a file."""

    def __init__(self, settings: RedisSettings) -> None:
        self._username = settings.username or settings.url.username
        self._password = settings.url.password
        self._file = settings.password_file

    @property
    def needed(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._username or self._password or self._file)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """What AUTH is given."""
        password = self._password or ""
        if self._file is not None:
            password = Path(self._file).read_text(encoding="utf-8").strip()
        return (password,) if self._username is None else (self._username, password)


class RedisClient:
    """Connections to the Redis that `settings` name, and its calls. Every failure is a StoreUnavailable."""

    def __init__(self, settings: RedisSettings, stats: FleetStats, trouble: Trouble) -> None:
        self.settings = settings
        self.stats = stats
        self.trouble = trouble
        self._sentinel = _sentinel(settings) if settings.url.kind is RedisKind.SENTINEL else None
        self._redis: Redis | RedisCluster
        self._redis = _cluster(settings) if settings.url.kind is RedisKind.CLUSTER else self._server()

    async def call(self, *command: str | bytes | int, deadline: float, doing: str) -> Any:
        """The answer to `command` within `deadline` seconds. `doing` says in the log what it was for."""
        self.stats.commands += 1
        try:
            async with asyncio.timeout(deadline):
                answer = await self._redis.execute_command(*command)
        except NoScriptError:
            raise
        except CAUGHT as error:
            failure = unavailable(error)
            # Who was not willing to wait for long has not found out that nobody is there.
            hasty = failure.kind == "timeout" and deadline < CONNECT_TIMEOUT
            self.stats.up = self.stats.up and hasty
            self.trouble.failed(failure, doing)
            raise failure from error
        self.stats.up = True
        self.trouble.answered()
        return answer

    async def run(self, script: Script, key: str, *arguments: str | bytes | int, deadline: float, doing: str) -> Any:
        """What `script` answers; it is sent whole where the server does not know it, as after its restart."""
        try:
            return await self.call("EVALSHA", script.sha, 1, key, *arguments, deadline=deadline, doing=doing)
        except NoScriptError:
            return await self.call("EVAL", script.text, 1, key, *arguments, deadline=deadline, doing=doing)

    async def subscriber(self) -> Redis:
        """A client of its own for a subscription; whoever asks closes it. Any node of a Cluster will do for that."""
        if isinstance(self._redis, RedisCluster):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._redis.initialize()
            except CAUGHT as error:
                raise unavailable(error) from error
            node = self._redis.get_random_node()
            return Redis(host=str(node.host), port=int(node.port), **_options(self.settings))
        return self._server()

    def garbage(self, error: Exception, doing: str) -> StoreUnavailable:
        """An answer that makes no sense, counted."""
        failure = StoreUnavailable("garbage", f"{type(error).__name__}: {error}")
        self.trouble.failed(failure, doing)
        return failure

    async def close(self) -> None:
        """Let go of every connection."""
        for one in (self._redis, *(() if self._sentinel is None else self._sentinel.sentinels)):
            # A connection that cannot be ended in order is ended all the same.
            with suppress(*CAUGHT):
                await one.aclose()

    def _server(self) -> Redis:
        """A client of the one server: the one named, or the one that the Sentinels name."""
        url = self.settings.url
        if self._sentinel is not None:
            master: Redis = self._sentinel.master_for(url.master)
            return master
        options = _options(self.settings)
        if url.unix_path:
            return Redis(unix_socket_path=url.unix_path, **options)
        ((host, port),) = url.hosts
        return Redis(host=host, port=port, **options)


def _cluster(settings: RedisSettings) -> RedisCluster:
    nodes = [ClusterNode(*host) for host in settings.url.hosts]
    options = _options(settings)
    del options["db"]
    # A Cluster that lacks a slot somewhere still has ours.
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)


def _sentinel(settings: RedisSettings) -> Sentinel:
    options = _options(settings)
    asked = {name: options[name] for name in options if name.startswith(("ssl", "socket", "retry", "protocol"))}
    return Sentinel(settings.url.hosts, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]


def _options(settings: RedisSettings) -> dict[str, Any]:
    credentials = Credentials(settings)
    options: dict[str, Any] = {
        "db": settings.url.db,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "max_connections": MOST_CONNECTIONS,
        "protocol": 2,
        # Or every connection begins with two commands that tell the library's name.
        "driver_info": None,
        "credential_provider": credentials if credentials.needed else None,
    }
    if settings.url.unix_path:
        del options["socket_keepalive"]
    if settings.url.tls:
        tls = settings.tls
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify,
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.cert_file,
            "ssl_keyfile": tls.key_file,
        }
    return options
