"""The URL of Redis: one server, Sentinels with the name of their master, or some nodes of a Cluster."""

from __future__ import annotations

from urllib.parse import unquote

from sidecar.config import units
from sidecar.config.addresses import URL, host_and_port, unix_path
from sidecar.config.units import BadValue, quoted
from sidecar.core.fleet_settings import RedisKind, RedisUrl

PORTS = {RedisKind.SINGLE: 6379, RedisKind.SENTINEL: 26379, RedisKind.CLUSTER: 6379}
EXAMPLE = (
    "write redis://host:6379/0, rediss://host, unix:/path.sock, redis+sentinel://a,b/master or redis+cluster://a,b"
)


def redis_url(text: str) -> RedisUrl:
    """What `text` says. Raises BadValue, which never shows a password."""
    if text.startswith("unix:"):
        return RedisUrl(RedisKind.SINGLE, unix_path=unix_path(text))
    found = URL.fullmatch(text)
    if found is None:
        raise BadValue("not a URL of Redis", EXAMPLE)
    scheme = found["scheme"].lower()
    plain = scheme.replace("rediss", "redis", 1)
    kind = next((kind for kind in RedisKind if kind.value == plain), None)
    if kind is None:
        raise BadValue(f"the scheme {quoted(scheme)} is not supported", EXAMPLE)
    login, _, hosts = found["authority"].rpartition("@")
    username, _, password = login.partition(":")
    master, db = _path(kind, found["rest"])
    return RedisUrl(
        kind,
        tuple(_host(kind, host) for host in hosts.split(",")),
        db=db,
        master=master,
        tls=plain != scheme,
        username=unquote(username) or None,
        password=unquote(password) or None,
    )


def _host(kind: RedisKind, text: str) -> tuple[str, int]:
    host, port = host_and_port(text)
    if port == 0:
        raise BadValue("port 0 cannot be connected to")
    return host, port or PORTS[kind]


def _path(kind: RedisKind, rest: str) -> tuple[str, int]:
    """The master's name and the number of the database, as far as this kind of URL has them."""
    parts = rest.strip("/").split("/")
    if "?" in rest or "#" in rest:
        raise BadValue("a URL of Redis has no query and no fragment here", "use the keys of the block redis")
    master = parts.pop(0) if kind is RedisKind.SENTINEL else ""
    if kind is RedisKind.SENTINEL and not master:
        raise BadValue("the name of the master is missing", "write redis+sentinel://host:26379,host:26379/master")
    db = units.whole(parts[0]) if parts and parts[0] else 0
    if len(parts) > 1 or (kind is RedisKind.CLUSTER and db):
        raise BadValue(f"{quoted(rest)} is no database here", "a Cluster has database 0 only" if db else EXAMPLE)
    return master, db
