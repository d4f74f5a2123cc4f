"""What a configuration says of Redis and of the fleet."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sidecar.core.address import host_port, unix_text
from sidecar.core.config_key import FILE, IDENTIFIER, NAMESPACE, TEXT, KeyType, block, duration, key, no_default, whole


class RedisKind(Enum):
    """How the servers behind a URL belong together: one alone, Sentinels that name the master, or a Cluster."""

    SINGLE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is. `hosts` has one server, or some of the Sentinels or Cluster nodes; none with a `unix_path`.

    `master` is the name that Sentinels know the master by. As text it has no password.
    """

    kind: RedisKind
    hosts: tuple[tuple[str, int], ...] = ()
    unix_path: str = ""
    db: int = 0
    master: str = ""
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        user = "" if self.username is None and self.password is None else f"{self.username or ''}:***@"
        if self.unix_path:
            return unix_text(self.unix_path)
        scheme = self.kind.value.replace("redis", "rediss", 1) if self.tls else self.kind.value
        path = "/".join(filter(None, [self.master, str(self.db) if self.db else ""]))
        hosts = ",".join(host_port(*host) for host in self.hosts)
        return f"{scheme}://{user}{hosts}{'/' if path else ''}{path}"


REDIS_URL: KeyType[RedisUrl] = KeyType("URL of Redis")


@dataclass(frozen=True, slots=True)
class RedisTls:
    """How a `rediss://` server is verified, and what it is shown."""

    verify: bool = key(True, bool, "check the certificate; false is for tests only")
    ca_file: str | None = key(None, FILE, "PEM file with the authorities to trust; null: the system's")
    cert_file: str | None = key(None, FILE, "PEM file with a client certificate")
    key_file: str | None = key(None, FILE, "PEM file with its private key")


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The Redis that the fleet shares; times in seconds."""

    url: RedisUrl = field(
        metadata=no_default(
            REDIS_URL, "redis://host:6379/0, rediss://…, unix:/path.sock, redis+sentinel://…, redis+cluster://…"
        )
    )
    namespace: str = key("sidecar", NAMESPACE, "begins every key: sidecars with the same one are a fleet")
    username: str | None = key(None, TEXT, "ACL user; null: the URL's, or the default user")
    password_file: str | None = key(None, FILE, "file with the password; null: the URL's, or none")
    tls: RedisTls = block(RedisTls, "how rediss:// is verified")
    sync_interval: float = key(0.25, duration(), "how often the fleet's state is looked at")
    probe_lease_timeout: float = key(
        0.05, duration(), "how long a probe waits for its lease; beyond, it is decided here"
    )
    read_timeout: float = key(0.02, duration(), "how long a single look-up may take before memory must do")


class FleetTrip(Enum):
    """Who opens everybody's circuit: `quorum` pods that opened their own, any one, or nobody."""

    QUORUM = "quorum"
    ANY = "any"
    LOCAL = "local"


class Scope(Enum):
    """Whom an override is for."""

    FLEET = "fleet"
    POD = "pod"


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the sidecars of a fleet decide together."""

    trip: FleetTrip = key(
        FleetTrip.QUORUM, FleetTrip, "who opens everybody's circuit: quorum, any pod, or none (local)"
    )
    quorum: int = key(2, whole(1, 10_000), "pods that must have opened their own; all, where there are fewer")
    overrides: Scope = key(Scope.FLEET, Scope, "whom an override is for that does not say: fleet or pod")
    pod_id: str | None = key(None, IDENTIFIER, "this sidecar's name in the fleet; null: host name and process id")
