"""Looks for what goes wrong in pods, where the sidecar is to run: addresses, mounts, limits, names. Changes nothing."""

from __future__ import annotations

import os
import resource
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.config.lint_listeners import is_loopback
from sidecar.config.units import show_duration, show_size
from sidecar.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.config.load import Loaded
    from sidecar.core.config import Config

MOUNTS = Path("/proc/self/mountinfo")
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
AFTER_THE_DRAIN = 5.0
"""Seconds that are left between the end of a drain and SIGKILL: to save the cache, and to spare."""
PROCESS = 64 * 1024 * 1024
"""Bytes that a sidecar takes beside its cache, with hundreds of connections."""
DNS_PATIENCE = 5.0
"""Seconds in which every name must have been found."""


class Level(Enum):
    """A problem makes the doctor exit 1; advice does not."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at. `remedy` says how to mend it; empty where nothing is wrong."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


def examine(loaded: Loaded, readable: Config | None, grace_period: float) -> Iterator[Diagnosis]:
    """Everything that is found. `readable` is the configuration as far as it can be read, whatever its files hold;
    `grace_period` is the time that the pod has to end, in seconds.
    """
    yield from _configuration(loaded)
    if readable is not None:
        yield from _telemetry(readable)
        yield from _names(readable)
        yield from _mount(readable, _mount_points(MOUNTS))
        yield _grace_period(readable, grace_period)
        yield from _state_dir(readable)
        yield _descriptors(readable, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        yield from _memory(readable, _memory_limit(MEMORY_LIMITS))


def _configuration(loaded: Loaded) -> Iterator[Diagnosis]:
    for problem in loaded.errors:
        where = f"{loaded.source}:{problem.line}:{problem.column}"
        yield Diagnosis(Level.PROBLEM, "configuration", f"{where}: {problem.message}", problem.hint)
    if loaded.config is not None:
        warnings = counted(len(loaded.problems), "warning")
        remedy = "see sidecar check" if loaded.problems else ""
        level = Level.ADVICE if loaded.problems else Level.OK
        yield Diagnosis(level, "configuration", f"{loaded.source} is usable, {warnings}", remedy)


def _telemetry(config: Config) -> Iterator[Diagnosis]:
    addresses = config.telemetry.listen
    shown = ", ".join(map(str, addresses))
    if all(map(is_loopback, addresses)):
        message = f"{shown} can be reached from within the pod only: kubelet's probes and Prometheus come from outside"
        yield Diagnosis(Level.PROBLEM, "telemetry", message, f"write telemetry: {{listen: 0.0.0.0:{_port(addresses)}}}")
    else:
        yield Diagnosis(Level.OK, "telemetry", f"probes and scrapes reach {shown}")


def _port(addresses: Iterable[object]) -> int:
    return next((getattr(address, "port", 0) for address in addresses), 0) or 4102


def _names(config: Config) -> Iterator[Diagnosis]:
    users: dict[str, list[str]] = {}
    for upstream in config.upstreams:
        for endpoint in upstream.endpoints:
            if endpoint.host and upstream.name not in users.setdefault(endpoint.host, []):
                users[endpoint.host].append(upstream.name)
    faults = _unresolved(users)
    for host, reason in faults.items():
        message = f"{host} (upstream {', '.join(users[host])}) is not found: {reason}"
        remedy = "check its spelling and namespace (name.namespace.svc), and the pod's dnsPolicy and NetworkPolicy"
        yield Diagnosis(Level.PROBLEM, "names", message, remedy)
    if not faults:
        yield Diagnosis(Level.OK, "names", f"every upstream's name is found ({counted(len(users), 'host')})")


def _unresolved(hosts: Iterable[str]) -> dict[str, str]:
    pool = ThreadPoolExecutor(max_workers=32)
    asked = {pool.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM): host for host in hosts}
    done, late = wait(asked, timeout=DNS_PATIENCE)
    pool.shutdown(wait=False, cancel_futures=True)
    faults = {asked[one]: f"no answer in {DNS_PATIENCE:g} s" for one in late}
    for one in done:
        if (error := one.exception()) is not None:
            faults[asked[one]] = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return faults


def _mount_points(mounts: Path) -> frozenset[str]:
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split(" ")[4] for line in lines if line.count(" ") > 4)


def _mount(config: Config, mount_points: frozenset[str]) -> Iterator[Diagnosis]:
    path = str(Path(config.source).absolute())
    if path in mount_points:
        message = f"{path} is mounted by itself (subPath): a changed ConfigMap never gets here"
        yield Diagnosis(Level.PROBLEM, "mount", message, f"mount the ConfigMap as the folder {Path(path).parent}")
    elif config.reload.watch:
        yield Diagnosis(Level.OK, "mount", f"{path} is watched, every {show_duration(config.reload.interval)}")


def _grace_period(config: Config, grace_period: float) -> Diagnosis:
    drain, whole = config.proxy.drain_timeout, config.proxy.drain_timeout + AFTER_THE_DRAIN
    shown = f"drain_timeout {show_duration(drain)}, grace period {show_duration(grace_period)}"
    if whole <= grace_period:
        return Diagnosis(Level.OK, "grace period", shown)
    message = f"{shown}: requests that are still in flight would be killed, and the cache not saved"
    remedy = f"set terminationGracePeriodSeconds: {whole:g} or more, and tell the doctor by --grace-period"
    return Diagnosis(Level.PROBLEM, "grace period", message, remedy)


def _state_dir(config: Config) -> Iterator[Diagnosis]:
    if config.state_dir is None:
        return
    path = Path(config.state_dir).absolute()
    nearest = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield Diagnosis(Level.OK, "state_dir", f"{path} can be written")
    else:
        remedy = "mount a volume there (an emptyDir lives as long as the pod), writable for the container's user"
        yield Diagnosis(Level.PROBLEM, "state_dir", f"{path} cannot be written by user {os.getuid()}", remedy)


def _descriptors(config: Config, limit: int) -> Diagnosis:
    wanted = 2 * config.proxy.limits.connections + config.admin.connections + config.telemetry.connections
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return Diagnosis(Level.OK, "file limit", f"{limit} descriptors, for {wanted} at most")
    message = f"{limit} descriptors: {config.proxy.limits.connections} clients, each with an upstream, need {wanted}"
    remedy = f"raise the runtime's limit (ulimit -n), or set proxy.limits.connections: {max(1, limit // 3)}"
    return Diagnosis(Level.ADVICE, "file limit", message, remedy)


def _memory_limit(files: Iterable[Path]) -> int | None:
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    return None


def _memory(config: Config, limit: int | None) -> Iterator[Diagnosis]:
    if limit is None:
        return
    wanted = config.cache.max_size + PROCESS
    if limit >= wanted:
        yield Diagnosis(Level.OK, "memory", f"limit {show_size(limit)}, for about {show_size(wanted)}")
    else:
        message = f"the limit of {show_size(limit)} is less than cache.max_size and the process, {show_size(wanted)}"
        yield Diagnosis(Level.PROBLEM, "memory", message, "raise resources.limits.memory, or lower cache.max_size")


def as_lines(found: Iterable[Diagnosis]) -> Iterator[str]:
    """What is shown: a line each, and one with the remedy."""
    for diagnosis in found:
        yield f"{diagnosis.level.value:8} {diagnosis.subject:14} {diagnosis.message}"
        if diagnosis.remedy:
            yield f"{'':8} {'':14} mend: {diagnosis.remedy}"
